// UDP ports of the overlays.
import { expect, test } from "bun:test";
import { fastdpPort, overlayPort } from "../../lib/overlay/ports.ts";

test("each overlay has its UDP port, by the port of the mesh", () => {
  expect(fastdpPort(6783)).toBe(6784);
  expect(overlayPort("fastdp", 7000)).toBe(7001);
  expect(overlayPort("sleeve", 7000)).toBe(7000);
  expect(overlayPort(null, 7000)).toBe(7001);
});
