import { describe, expect, test } from "bun:test";
import { VlanHeader } from "../../../lib/packet/index.ts";
import { expectBounds, expectFields, headerAt, hexOf, setFields } from "../../support/headers.ts";

describe("VlanHeader", () => {
  test("reads and writes its fields, and bits leave each other alone", () => {
    const fields = { priority: 5, isDropEligible: true, id: 0x123, etherType: 0x88a8 };
    expectFields(headerAt(VlanHeader, "b12388a8"), { ...fields, tci: 0xb123 });
    const blank = headerAt(VlanHeader, "a5a5a5a5");
    setFields(blank, fields);
    expect(hexOf(blank)).toBe("b12388a8");
    const cleared = headerAt(VlanHeader, "ffffffff");
    setFields(cleared, { isDropEligible: false });
    expect(hexOf(cleared)).toBe("efffffff");
    setFields(cleared, { id: 0 });
    expect(hexOf(cleared)).toBe("e000ffff");
  });

  test("takes what a field can hold, and refuses the rest", () => {
    const numbers = { tci: 0xffff, priority: 7, id: 4095, etherType: 0xffff };
    expectBounds(headerAt(VlanHeader, "b12388a8"), numbers, ["isDropEligible"]);
  });
});
