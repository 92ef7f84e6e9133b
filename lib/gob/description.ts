// Type descriptions of a gob stream (encoding/gob: wireType).
import { type Cursor, GobError } from "./cursor.ts";

const WIRE_ARRAY = 1;
const WIRE_SLICE = 2;
const WIRE_STRUCT = 3;
const WIRE_MAP = 4;

/** A type of the sender; elements and fields are type ids. */
export type WireType =
  | { readonly kind: "slice"; readonly element: number }
  | { readonly kind: "map"; readonly key: number; readonly element: number }
  | { readonly kind: "struct"; readonly fields: readonly { readonly name: string; readonly id: number }[] };

/** Type descriptions by their bytes: those of all streams of one sender are the same. */
const descriptions = new Map<string, WireType>();
const MAX_DESCRIPTIONS = 256;
const MAX_KEPT = 512;

/** Read a type description behind its id, to the end of its message; throws GobError. The caller bounds its length. */
export function readDescription(message: Cursor): WireType {
  if (message.left > MAX_KEPT) return parseDescription(message);
  const { bytes, at, left } = message;
  const key = Buffer.from(bytes.buffer, bytes.byteOffset + at, left).toString("latin1");
  let wire = descriptions.get(key);
  if (wire) {
    message.at = message.end;
    return wire;
  }
  wire = parseDescription(message);
  // Bytes behind a description are skipped: others than these would be read in the same way.
  if (descriptions.size >= MAX_DESCRIPTIONS) descriptions.clear();
  descriptions.set(key, wire);
  return wire;
}

/** Throws GobError. */
function parseDescription(cursor: Cursor): WireType {
  let wire: WireType | undefined;
  cursor.eachField((field) => {
    switch (field) {
      case WIRE_ARRAY:
      case WIRE_SLICE:
        wire = readSlice(cursor);
        break;
      case WIRE_STRUCT:
        wire = readStruct(cursor);
        break;
      case WIRE_MAP:
        wire = readMap(cursor);
        break;
      default:
        throw new GobError(`gob describes a type of unknown kind ${field}`);
    }
  });
  if (!wire) throw new GobError("gob describes a type without saying what it is");
  return wire;
}

/** Skip a CommonType: a name, and an id that the description repeats. */
function readCommon(cursor: Cursor): void {
  cursor.eachField((field) => {
    if (field === 1) cursor.take();
    else cursor.int();
  });
}

function readSlice(cursor: Cursor): WireType {
  let element = 0;
  cursor.eachField((field) => {
    if (field === 1) readCommon(cursor);
    else if (field === 2) element = cursor.typeId();
    else cursor.int();
  });
  return { kind: "slice", element };
}

function readMap(cursor: Cursor): WireType {
  let key = 0;
  let element = 0;
  cursor.eachField((field) => {
    if (field === 1) readCommon(cursor);
    else if (field === 2) key = cursor.typeId();
    else element = cursor.typeId();
  });
  return { kind: "map", key, element };
}

function readStruct(cursor: Cursor): WireType {
  const fields: { name: string; id: number }[] = [];
  cursor.eachField((field) => {
    if (field === 1) return readCommon(cursor);
    const count = cursor.count();
    for (let i = 0; i < count; i++) {
      const entry = { name: "", id: 0 };
      cursor.eachField((part) => {
        if (part === 1) entry.name = cursor.string();
        else entry.id = cursor.typeId();
      });
      fields.push(entry);
    }
  });
  return { kind: "struct", fields };
}
