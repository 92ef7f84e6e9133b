// The connections of the map, drawn on a canvas: those of others thin, our own by overlay, traffic and trouble.
import { rate, roundTrip } from "./format.ts";
import type { Place } from "./maplayout.ts";
import type { Standing, Tone } from "./standing.ts";

export interface Edge {
  readonly from: string;
  readonly to: string;
}

export interface Picture {
  readonly places: ReadonlyMap<string, Place>;
  readonly standings: ReadonlyMap<string, Standing>;
  readonly own: string;
  /** Between others. */
  readonly edges: readonly Edge[];
  /** The peer that is looked at. */
  readonly focus: string | undefined;
  /** Our own connections have labels. */
  readonly labels: boolean;
}

type Colours = Readonly<Record<Tone | "line" | "ground" | "ink", string>>;

/** Return the colours of the page, as its style has them at present. */
export function coloursOf(element: Element): Colours {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    own: colour("fast"),
    fast: colour("fast"),
    sleeve: colour("sleeve"),
    far: colour("muted"),
    waiting: colour("muted"),
    bad: colour("bad"),
    line: colour("edge"),
    ground: colour("panel"),
    ink: colour("ink"),
  };
}

const DASHES: Partial<Record<Tone, readonly number[]>> = { sleeve: [9, 6], waiting: [2, 6], bad: [4, 5] };

/** Width of a connection in px: a step for each tenfold of its traffic from 1 kB/s on. */
function widthOf({ connection }: Standing): number {
  const { receivedBytesPerS = 0, sentBytesPerS = 0 } = connection ?? {};
  return 2 + Math.min(10, 1.6 * Math.log10(1 + (receivedBytesPerS + sentBytesPerS) / 1_000));
}

/** Draw the connections between others. */
export function drawOthers(
  canvas: CanvasRenderingContext2D,
  { places, edges }: Pick<Picture, "places" | "edges">,
  colours: Colours,
): void {
  canvas.lineWidth = 1;
  canvas.strokeStyle = colours.line;
  // Many together are a mist, not a wall.
  canvas.globalAlpha = Math.min(1, Math.max(0.12, 200 / edges.length));
  // All at once: one stroke for thousands of lines.
  canvas.beginPath();
  for (const { from, to } of edges) line(canvas, places.get(from), places.get(to));
  canvas.stroke();
  canvas.globalAlpha = 1;
}

/** Draw our own connections, and those of the peer that is looked at. */
export function drawOwn(
  canvas: CanvasRenderingContext2D,
  { places, standings, own, edges, focus, labels }: Picture,
  colours: Colours,
): void {
  const centre = places.get(own);
  canvas.lineCap = "butt";
  canvas.setLineDash([]);
  if (focus !== undefined && focus !== own) {
    canvas.strokeStyle = colours.far;
    canvas.lineWidth = 1.5;
    canvas.beginPath();
    for (const { from, to } of edges)
      if (from === focus || to === focus) line(canvas, places.get(from), places.get(to));
    canvas.stroke();
  }
  for (const [key, standing] of standings) {
    if (!standing.connection || key === own) continue;
    // Fewer have more room.
    const width = labels ? widthOf(standing) : Math.max(1, widthOf(standing) / 2);
    const { tone } = standing;
    canvas.setLineDash([...(DASHES[tone] ?? [])]);
    canvas.strokeStyle = colours[tone];
    canvas.lineWidth = tone === "bad" ? Math.max(3, width) : width;
    canvas.beginPath();
    line(canvas, centre, places.get(key));
    canvas.stroke();
    if (!standing.connection.encrypted) continue;
    // Encrypted: a double line.
    canvas.setLineDash([]);
    canvas.strokeStyle = colours.ground;
    canvas.lineWidth = Math.max(1, width - 3) / 2;
    canvas.stroke();
  }
  canvas.setLineDash([]);
  if (!centre) return;
  for (const [key, standing] of standings) {
    const place = places.get(key);
    if (place && standing.connection && (labels || key === focus))
      label(canvas, centre, place, standing, colours);
  }
}

function line(canvas: CanvasRenderingContext2D, from: Place | undefined, to: Place | undefined): void {
  if (!from || !to) return;
  canvas.moveTo(from.x, from.y);
  canvas.lineTo(to.x, to.y);
}

/** Round trip and MTU, and traffic where there is any, on the connection. */
function label(
  canvas: CanvasRenderingContext2D,
  from: Place,
  to: Place,
  { connection, tone }: Standing,
  colours: Colours,
): void {
  if (!connection || tone === "waiting") return;
  const { roundTripMs, mtu, receivedBytesPerS = 0, sentBytesPerS = 0, state, silent } = connection;
  const traffic = receivedBytesPerS + sentBytesPerS;
  const words =
    tone === "bad"
      ? [silent ? "silent" : state]
      : [
          ...(roundTripMs === undefined ? [] : [roundTrip(roundTripMs)]),
          ...(mtu === undefined ? [] : [`mtu ${mtu}`]),
          ...(traffic > 0 ? [rate(traffic)] : []),
        ];
  const [x, y] = [from.x + (to.x - from.x) * 0.56, from.y + (to.y - from.y) * 0.56];
  canvas.font = "12px system-ui, sans-serif";
  canvas.textAlign = "center";
  canvas.textBaseline = "middle";
  const height = 15;
  const top = y - ((words.length - 1) * height) / 2;
  const width = Math.max(...words.map((word) => canvas.measureText(word).width));
  canvas.fillStyle = colours.ground;
  canvas.globalAlpha = 0.88;
  canvas.fillRect(x - width / 2 - 4, top - height / 2, width + 8, words.length * height);
  canvas.globalAlpha = 1;
  canvas.fillStyle = tone === "bad" ? colours.bad : colours.ink;
  for (const [i, word] of words.entries()) canvas.fillText(word, x, top + i * height);
}
