import { ropeMethods } from "longctx";
import { describe, expect, it } from "vitest";
import { Estimate } from "../src/run/estimate.ts";
import { resolveMethod, schedule, type ResolvedMethod, type Job } from "../src/run/schedule.ts";

const methods = (lengths: number[], labels: string[]): ResolvedMethod[] =>
  labels.flatMap((label) => lengths.map((length) => ({ label, length, method: resolveMethod(label, length, 256) })));

describe("methods", () => {
  it("get a factor from the length", () => {
    expect(resolveMethod("yarn:factor=auto", 1024, 256).spec).toBe("yarn:factor=4");
    expect(resolveMethod("interpolation:factor=auto", 128, 256).spec).toBe("interpolation:factor=1");
    expect(resolveMethod("none", 128, 256).parts).toHaveLength(1);
    expect(resolveMethod("yarn:factor=auto,attention_factor=1+rerope:window=100", 512, 256).spec).toBe(
      "yarn:factor=2,attention_factor=1+rerope:window=100",
    );
    expect(ropeMethods.map(({ name }) => name)).toContain("none");
  });

  it("are refused by name", () => {
    expect(() => resolveMethod("yarm:factor=2", 512, 256)).toThrow(/There is no method "yarm"/);
    expect(() => resolveMethod(" ", 512, 256)).toThrow(/write "none"/);
  });
});

describe("the schedule", () => {
  const all = methods([256, 512, 1024], ["none", "rerope:window=128"]);
  const jobs = schedule({ depths: [0, 50, 100], trials: 4, seed: 7, reuse: "none" }, all);

  it("has every sample once", () => {
    expect(jobs).toHaveLength(3 * 2 * 3 * 4);
    expect(new Set(jobs.map(({ cell, method }) => JSON.stringify([cell, method.label]))).size).toBe(jobs.length);
    expect(jobs.every(({ cell, method }) => cell.length === method.length && cell.seed === 7)).toBe(true);
  });

  it("has the same samples when prefixes are read once, those that share the most in a row", () => {
    const reusing = schedule({ depths: [0, 50, 100], trials: 4, seed: 7, reuse: "prefix" }, all);
    const names = (list: readonly Job[]) => list.map(({ cell, method }) => JSON.stringify([cell, method.label]));
    expect(names(reusing).sort()).toEqual(names(jobs).sort());
    expect(reusing.map(({ cell }) => cell.depth)).toEqual(jobs.map(({ cell }) => cell.depth).sort((a, b) => b - a));
  });

  it("sees every kind of sample in its first round, the longest first, methods on one prompt in a row", () => {
    const round = jobs.slice(0, 6);
    expect(round.map(({ cell, method }) => [cell.length, method.label])).toEqual(
      [1024, 512, 256].flatMap((length) => [
        [length, "none"],
        [length, "rerope:window=128"],
      ]),
    );
    expect(jobs[0].cell).toBe(jobs[1].cell);
  });

  it("lets the time left be known after one round, and promise little too little in it", () => {
    const estimate = new Estimate();
    const cost = ({ cell, method }: (typeof jobs)[number]): number =>
      cell.length * (method.label === "none" ? 1 : 1.5) * (1 + cell.length / 1000);
    expect(estimate.rest(jobs)).toBeNull();
    const told = jobs.map((job, index) => {
      estimate.add(job, cost(job));
      const rest = jobs.slice(index + 1);
      const truth = rest.reduce((sum, other) => sum + cost(other), 0);
      return rest.length === 0 ? 1 : estimate.rest(rest)! / truth;
    });
    expect(Math.min(...told.slice(1, 5))).toBeGreaterThan(0.9);
    for (const share of told.slice(5)) expect(share).toBeCloseTo(1, 10);
  });
});
