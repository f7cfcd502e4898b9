import { describe, it } from "vitest";
import * as fc from "fast-check";
import type { Method } from "@longctx/core";
import { randomPlans, type PlanMaker } from "../../core/tests/random-plans.ts";
import { expectSame, planned } from "./planned.ts";

/** Pairs of the tiny model. */
const PAIRS = 3;

function methodOf(plan: PlanMaker): Method {
  const { temperature } = plan(0, 1);
  const segments: Method["segments"] = (_, { first, count, layer }) => [...plan(first, count, layer).segments];
  return { ...planned(segments, temperature?.at), spec: String(plan) };
}

describe("random plans", () => {
  it("are computed as they are defined", async () => {
    await fc.assert(
      fc.asyncProperty(
        randomPlans(PAIRS),
        fc.constantFrom(1, 5, 16, 60),
        fc.boolean(),
        fc.integer({ min: 1, max: 60 }),
        async (plan, chunk, looked, count) => {
          await expectSame(methodOf(plan), { chunk, looked, count });
        },
      ),
      { numRuns: 12 },
    );
  });

  it("are computed as they are defined over a ring", async () => {
    const layout = () => ({ capacity: 24, pinned: 3 });
    // What the ring may have lost by the end of a chunk is not looked at.
    const near = randomPlans(PAIRS, 10);
    await fc.assert(
      fc.asyncProperty(near, fc.constantFrom(1, 5, 12), fc.boolean(), async (plan, chunk, looked) => {
        await expectSame({ ...methodOf(plan), layout }, { chunk, looked, count: 60 });
      }),
      { numRuns: 12 },
    );
  });
});
