// As much of a browser's document as the status page uses: elements with attributes, text, classes and listeners, a canvas that
// notes what is drawn on it, and a stream of events that the test feeds.

type Listener = (event: Record<string, unknown>) => void;

export class FakeElement {
  readonly attributes = new Map<string, string>();
  readonly children: FakeElement[] = [];
  readonly listeners = new Map<string, Listener[]>();
  readonly style: Record<string, unknown> & { setProperty(name: string, value: string): void } = {
    setProperty: (name, value) => {
      this.style[name] = value;
    },
  };
  readonly dataset: Record<string, string | undefined>;
  parent: FakeElement | undefined;
  value = "";
  hidden = false;
  tabIndex = 0;
  clientWidth = 800;
  clientHeight = 600;
  /** What a canvas was told, and set. */
  readonly drawn: unknown[][] = [];
  width = 0;
  height = 0;
  #text = "";

  constructor(readonly tag: string) {
    this.dataset = new Proxy(
      {},
      {
        get: (_, name) => this.getAttribute(`data-${String(name)}`) ?? undefined,
        set: (_, name, value) => {
          this.setAttribute(`data-${String(name)}`, value);
          return true;
        },
      },
    );
  }

  get id(): string {
    return this.getAttribute("id") ?? "";
  }
  set id(id: string) {
    this.setAttribute("id", id);
  }
  get hash(): string {
    return this.getAttribute("href") ?? "";
  }
  getAttribute(name: string): string | null {
    return this.attributes.get(name) ?? null;
  }
  setAttribute(name: string, value: string): void {
    this.attributes.set(name, value);
    if (name === "value") this.value = value;
  }
  removeAttribute(name: string): void {
    this.attributes.delete(name);
  }
  get classList() {
    const all = () => new Set((this.getAttribute("class") ?? "").split(" ").filter(Boolean));
    const set = (names: Set<string>) => this.setAttribute("class", [...names].join(" "));
    return {
      add: (name: string) => set(all().add(name)),
      toggle: (name: string, on: boolean) => {
        const names = all();
        if (on) names.add(name);
        else names.delete(name);
        set(names);
      },
      contains: (name: string) => all().has(name),
    };
  }

  get textContent(): string {
    return this.children.length > 0 ? this.children.map((child) => child.textContent).join("") : this.#text;
  }
  set textContent(text: string) {
    this.replaceChildren();
    this.#text = text;
  }
  append(...children: (FakeElement | string)[]): void {
    for (const child of children) this.insertBefore(child, null);
  }
  insertBefore(child: FakeElement | string, next: FakeElement | null): void {
    const node = typeof child === "string" ? new FakeElement("#text") : child;
    if (typeof child === "string") node.#text = child;
    node.remove();
    node.parent = this;
    const at = next ? this.children.indexOf(next) : this.children.length;
    this.children.splice(at, 0, node);
  }
  replaceChildren(...children: FakeElement[]): void {
    for (const child of [...this.children]) child.remove();
    this.append(...children);
  }
  remove(): void {
    const at = this.parent?.children.indexOf(this) ?? -1;
    if (at >= 0) this.parent?.children.splice(at, 1);
    this.parent = undefined;
  }
  get #elements(): FakeElement[] {
    return this.children.filter(({ tag }) => tag !== "#text");
  }
  get firstElementChild(): FakeElement | null {
    return this.#elements[0] ?? null;
  }
  get lastElementChild(): FakeElement | null {
    return this.#elements.at(-1) ?? null;
  }
  get nextElementSibling(): FakeElement | null {
    const all = this.parent?.children.filter(({ tag }) => tag !== "#text") ?? [];
    return all[all.indexOf(this) + 1] ?? null;
  }
  get cells(): FakeElement[] {
    return this.#elements;
  }
  get options(): FakeElement[] {
    return this.#elements;
  }
  closest(tag: string): FakeElement | null {
    return this.tag === tag ? this : (this.parent?.closest(tag) ?? null);
  }
  /** All descendants of a tag. */
  all(tag: string): FakeElement[] {
    return this.#elements.flatMap((child) => [...(child.tag === tag ? [child] : []), ...child.all(tag)]);
  }
  /** The first descendant with such an attribute. */
  find(name: string, value: string): FakeElement | undefined {
    for (const child of this.#elements) {
      const found = child.getAttribute(name) === value ? child : child.find(name, value);
      if (found) return found;
    }
    return undefined;
  }

  addEventListener(event: string, listener: Listener): void {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }
  /** Let an event happen here; returns whether its default was prevented. */
  fire(name: string, event: Record<string, unknown> = {}): boolean {
    let prevented = false;
    const preventDefault = () => {
      prevented = true;
    };
    for (const listener of this.listeners.get(name) ?? [])
      listener({ target: this, preventDefault, ...event });
    return prevented;
  }
  focus(): void {
    focused.at = this;
    this.fire("focus");
  }
  getBoundingClientRect() {
    return { left: 100, top: 50 };
  }
  getContext() {
    const { drawn } = this;
    return new Proxy({} as Record<string, unknown>, {
      get: (held, name) => {
        if (name === "measureText") return (text: string) => ({ width: 7 * text.length });
        return held[String(name)] ?? ((...args: unknown[]) => void drawn.push([String(name), ...args]));
      },
      set: (_, name, value) => {
        drawn.push([`${String(name)} =`, value]);
        return true;
      },
    });
  }
}

/** The element that has the focus. */
export const focused: { at: FakeElement | undefined } = { at: undefined };

export class FakeStream extends FakeElement {
  static readonly CLOSED = 2;
  static opened: FakeStream[] = [];
  readyState = 1;
  constructor(readonly url: string) {
    super("stream");
    FakeStream.opened.push(this);
  }
  close(): void {
    this.readyState = FakeStream.CLOSED;
  }
  send(event: string, data: unknown): void {
    this.fire(event, { data: JSON.stringify(data) });
  }
}

/** Put such a document in place of none; `frame` runs what waits for the next frame. The function takes it away. */
export function useDocument() {
  const frames: (() => void)[] = [];
  const body = new FakeElement("body");
  const document = {
    title: "",
    body,
    createElement: (tag: string) => new FakeElement(tag),
    createElementNS: (_: string, tag: string) => new FakeElement(tag),
    getElementById: (id: string) => body.find("id", id) ?? null,
  };
  const changed: Listener[] = [];
  const history: string[] = [];
  const globals: Record<string, unknown> = {
    document,
    HTMLElement: FakeElement,
    Element: FakeElement,
    EventSource: FakeStream,
    devicePixelRatio: 2,
    location: { hash: "" },
    history: { replaceState: (_: unknown, __: string, url: string) => void history.push(url) },
    getComputedStyle: () => ({ getPropertyValue: (name: string) => ` ${name.slice(2)} ` }),
    matchMedia: () => new FakeElement("media"),
    requestAnimationFrame: (fn: () => void) => frames.push(fn),
    addEventListener: (event: string, listener: Listener) => event === "hashchange" && changed.push(listener),
    ResizeObserver: class {
      observe(): void {}
    },
  };
  const before = Object.keys(globals).map((name) => [name, Reflect.get(globalThis, name)] as const);
  for (const [name, value] of Object.entries(globals)) Reflect.set(globalThis, name, value);
  FakeStream.opened = [];
  return {
    document,
    body,
    history,
    frame(): number {
      const due = frames.splice(0);
      for (const each of due) each();
      return due.length;
    },
    go(hash: string): void {
      (globals["location"] as { hash: string }).hash = hash;
      for (const listener of changed) listener({});
    },
    restore(): void {
      for (const [name, value] of before)
        if (value === undefined) Reflect.deleteProperty(globalThis, name);
        else Reflect.set(globalThis, name, value);
    },
  };
}
