import { describe, expect, test } from "bun:test";
import { Assembler, R0, R1, R8 } from "../../lib/bpf/assembler.ts";

describe("the eBPF assembler", () => {
  test("encodes instructions as RFC 9669 lays them out", () => {
    const program = new Assembler()
      .mov(R0, { imm: 1 })
      .jumpIf(R1, "eq", { imm: -1 }, "end")
      .load("u32", R1, R0, 4)
      .label("end")
      .exit()
      .assemble();
    expect(program.toHex()).toBe(
      "b700000001000000" + "15010100ffffffff" + "6101040000000000" + "9500000000000000",
    );
  });

  test("a label that is missing or set twice is an error", () => {
    expect(() => new Assembler().jump("nowhere").assemble()).toThrow("label nowhere is not set");
    expect(() => new Assembler().label("a").label("a")).toThrow("label a is set twice");
  });

  test("tells registers from immediates, whatever their number", () => {
    const hex = (asm: Assembler) => asm.assemble().toHex();
    expect(hex(new Assembler().add(R1, { imm: 8 }))).toBe("0701000008000000");
    expect(hex(new Assembler().add(R1, R8))).toBe("0f81000000000000");
    const types = (asm: Assembler) => {
      // @ts-expect-error: a number is no register
      asm.add(R1, 8);
      // @ts-expect-error: nor is a number of a helper
      asm.call(1);
      // @ts-expect-error
      asm.load("u32", 1, R0, 0);
      // @ts-expect-error
      asm.jumpIf(R0, "eq", 0, "drop");
    };
    expect(types).toBeFunction();
  });
});
