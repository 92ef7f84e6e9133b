// What each view of the page is.
import type { Facts } from "../facts.ts";
import type { State } from "./live.ts";

/** A state with its facts. */
export type Shown = State & { readonly facts: Facts };

export interface View {
  /** In the address: "#map". */
  readonly id: string;
  readonly title: string;
  readonly element: HTMLElement;
  /** Show a state; called for the view in sight, once a frame at most. `rest` is what follows the id in the address. */
  render(state: Shown, rest: string): void;
}
