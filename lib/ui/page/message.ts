// What the stream sends. Others choose the names in it: none may reverse the direction of the text around it.
import { printableLines } from "../../log/printable.ts";

/** Parse the data of a message, with its texts as the command line prints them. */
export const parseMessage = (data: string) =>
  JSON.parse(data, (_, value: unknown) => (typeof value === "string" ? printableLines(value) : value));
