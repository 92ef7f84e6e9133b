// The status page of one router: what is shown is chosen by the address ("#map", "#map/PEER"), and follows its stream.
import { AddressesView } from "./addresses.ts";
import { ContainersView } from "./containers.ts";
import { EventsView } from "./events.ts";
import { Header } from "./header.ts";
import { follow, type State } from "./live.ts";
import { MapView } from "./map.ts";
import { PolicyView } from "./policy.ts";
import type { View } from "./view.ts";

const views: readonly View[] = [
  new MapView(),
  new AddressesView(),
  new ContainersView(),
  new PolicyView(),
  new EventsView(),
];

/** The part of the address that names what to show; a malformed one names nothing. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}

function start(header: HTMLElement, main: HTMLElement, first: View): void {
  const top = new Header(header, views);
  for (const view of views) {
    view.element.id = `view-${view.id}`;
    view.element.setAttribute("role", "region");
    view.element.setAttribute("aria-label", view.title);
    main.append(view.element);
  }
  let state: State = { facts: undefined, events: [], lostAt: undefined, ahead: 0 };
  let due = false;
  const show = () => {
    due = false;
    const [id = "", rest = ""] = location.hash.slice(1).split("/");
    const current = views.find((view) => view.id === id) ?? first;
    for (const view of views) view.element.hidden = view !== current;
    top.show(state, current);
    const { facts } = state;
    if (facts) current.render({ ...state, facts }, decoded(rest));
  };
  // However much comes, once a frame.
  const showSoon = () => {
    if (!due) requestAnimationFrame(show);
    due = true;
  };
  addEventListener("hashchange", showSoon);
  follow("stream", (next) => {
    state = next;
    showSoon();
  });
  showSoon();
}

const [header, main] = [document.getElementById("header"), document.getElementById("main")];
const [first] = views;
if (header && main && first) start(header, main, first);
