import { describe, expect, it } from "vitest";
import { DEVICES, TOLERANCE } from "../devices.ts";
import { difference, judgeOf, type Judge } from "./judge.ts";
import type { Case } from "./cases.ts";

const LLAMA = await judgeOf("llama");
const PLAIN: Case = { spec: "none", parts: [] };

/** Tests that reading under each method gives the definition's logits, whatever the device and the way of reading. */
export function expectDefinitions(cases: readonly Case[], llama: Judge = LLAMA): void {
  it.each(cases.filter(({ parts, sameAsPlain }) => parts.length > 0 && !sameAsPlain))(
    "differs from the plain model: $spec",
    (method) => {
      for (const length of [48, 160])
        expect(difference(llama.logits(method, length), llama.logits(PLAIN, length))).toBeGreaterThan(0.05);
    },
  );

  describe.each(DEVICES)("%s", (device) => {
    /** Reads `together` tokens by one call, in chunks, and the others one by one: as generated, or as the prompt when all are. */
    const expectRead = async (method: Case, length: number, together: number, chunk: number) => {
      const prompt = together || length;
      const computed = await llama.read(device, method, llama.ids(length), { chunk, together, prompt });
      expect(difference(computed, llama.logits(method, length, prompt))).toBeLessThan(TOLERANCE[device]);
    };

    it.each(cases)("in chunks: $spec", async (method) => {
      await expectRead(method, 48, 48, 48);
      await expectRead(method, 48, 48, 16);
      await expectRead(method, 160, 160, 16);
    });

    it.each(cases.filter(({ bidirectional }) => !bidirectional))("token by token: $spec", async (method) => {
      await expectRead(method, 48, 0, 16);
      await expectRead(method, 160, 0, 16);
    });

    it.each(cases)("tokens generated after a prompt: $spec", async (method) => {
      await expectRead(method, 48, 29, 16);
    });
  });
}
