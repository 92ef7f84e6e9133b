// What the overlays put around frames: the table, and all that is said by it.
import { expect, test } from "bun:test";
import { expectedEncapsulation, usedEncapsulation } from "../../lib/doctor/encapsulation.ts";
import { PLAIN } from "../../lib/help/layout.ts";
import { topicText } from "../../lib/help/topics.ts";
import { DEFAULT_MTU, ENCAPSULATION, encapsulationOf, LEAST_MTU } from "../../lib/overlay/encapsulation.ts";

const ETHERNET = 1_500;

test("the table: IP, UDP and the overlay's own header, the Ethernet header, and what seals them", () => {
  expect(ENCAPSULATION).toEqual({
    fastdp: { plain: 50, esp: 84 },
    sleeve: { plain: 62, secretbox: 86, "aegis-256": 102 },
  });
  expect([DEFAULT_MTU, LEAST_MTU]).toEqual([1_376, 1_196]);
});

test.each([
  [{ name: "fastdp" }, 50],
  [{ name: "fastdp", encrypted: true }, 84],
  [{ name: "sleeve" }, 62],
  [{ name: "sleeve", encrypted: true }, 86],
  [{ name: "sleeve", encrypted: true, cipher: "aegis-256" }, 102],
])("a connection that reports %j has %d bytes", (attributes, bytes) => {
  expect(encapsulationOf(attributes)).toBe(bytes);
});

test("doctor counts the most that connections have, else what they would have", () => {
  const sleeve = { name: "sleeve", encrypted: true, cipher: "aegis-256" };
  expect(usedEncapsulation([])).toBeUndefined();
  expect(usedEncapsulation([{ name: "fastdp", encrypted: true }, sleeve, { name: "fastdp" }])).toEqual({
    bytes: 102,
    by: "encrypted sleeve",
  });
  expect(usedEncapsulation([{ name: "fastdp" }])).toEqual({ bytes: 50, by: "fastdp" });
  const expected = (encrypted: boolean, ...lacking: string[]) => {
    const { bytes, by } = expectedEncapsulation(encrypted, (feature) => lacking.includes(feature));
    return `${bytes} ${by}`;
  };
  expect([expected(false), expected(false, "ESP"), expected(false, "VXLAN")]).toEqual([
    ...["50 fastdp", "50 fastdp", "62 sleeve"],
  ]);
  expect([expected(true), expected(true, "ESP"), expected(true, "VXLAN")]).toEqual([
    ...["84 encrypted fastdp", "102 encrypted sleeve", "102 encrypted sleeve"],
  ]);
});

test("the manual has the numbers of the table", () => {
  const { fastdp, sleeve } = ENCAPSULATION;
  const trouble = (topicText("troubleshooting", PLAIN) ?? "").replace(/\s+/g, " ");
  expect(trouble).toContain(
    `less ${fastdp.plain} bytes, ${fastdp.esp} with a password, or ${sleeve["aegis-256"]} where sleeve carries frames with a password`,
  );
  const works = (topicText("how-it-works", PLAIN) ?? "").replace(/\s+/g, " ");
  expect(works).toContain(
    `${ETHERNET - fastdp.plain} on Ethernet, ${ETHERNET - fastdp.esp} with ESP, ${ETHERNET - sleeve["aegis-256"]} with encrypted sleeve`,
  );
  expect(works).toContain(`the MTU is ${DEFAULT_MTU}.`);
  expect(works).toContain(`less than ${LEAST_MTU} bytes`);
});
