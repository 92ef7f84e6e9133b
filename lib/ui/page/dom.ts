// Elements made of text, never of markup: names of peers and containers are others' to choose.

type Attributes = Readonly<Record<string, string | boolean | undefined>>;

/** Make an element; an attribute that is false or undefined is left out, a child that is text stays text. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children);
  return element;
}

/** Set or remove an attribute, where that changes something. */
export function setAttribute(element: Element, name: string, value: string | boolean | undefined): void {
  if (value === undefined || value === false) element.removeAttribute(name);
  else {
    const text = value === true ? "" : value;
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}

/** Set the text of an element, where that changes something: a selection in it stays. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Children of an element by keys: those that stay are kept, with their focus, and only moved where the order differs. */
export class Keyed<T, E extends Element> {
  readonly #elements = new Map<string, E>();

  constructor(
    private readonly parent: Element,
    private readonly make: (key: string) => E,
    private readonly update: (element: E, value: T, key: string) => void,
  ) {}

  get(key: string): E | undefined {
    return this.#elements.get(key);
  }

  show(entries: Iterable<readonly [string, T]>): void {
    const wanted = new Map(entries);
    for (const [key, element] of this.#elements) {
      if (wanted.has(key)) continue;
      element.remove();
      this.#elements.delete(key);
    }
    let next = this.parent.firstElementChild;
    for (const [key, value] of wanted) {
      let element = this.#elements.get(key);
      if (!element) {
        element = this.make(key);
        this.#elements.set(key, element);
      }
      if (element === next) next = next.nextElementSibling;
      else this.parent.insertBefore(element, next);
      this.update(element, value, key);
    }
  }
}
