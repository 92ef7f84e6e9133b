// JSON.rawJSON (ECMAScript 2026), which TypeScript's libraries do not have yet.
interface JSON {
  /** Returns what JSON.stringify writes as this text; throws SyntaxError for what is no primitive value of JSON. */
  rawJSON(text: string): object;
}
