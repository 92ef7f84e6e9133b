// JSON.rawJSON (ECMAScript 2026), which TypeScript's libraries do not have yet.
interface JSON {
  /** Return what JSON.stringify writes as this text; throw SyntaxError for what is no primitive value of JSON. */
  rawJSON(text: string): object;
}
