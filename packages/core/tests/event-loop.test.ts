import { afterEach, expect, it, vi } from "vitest";
import { eventLoopTurn } from "../src/common/event-loop.ts";

afterEach(() => vi.unstubAllGlobals());

it.each([
  ["setImmediate", true],
  ["messages, as in a page", false],
])("others get their turn, time and again: by %s", async (_, immediate) => {
  const { setImmediate: soon } = globalThis;
  if (!immediate) vi.stubGlobal("setImmediate", undefined);
  let others = 0;
  const other = () => {
    others++;
    if (others < 20) soon(other);
  };
  soon(other);
  for (let turn = 0; turn < 10; turn++) await eventLoopTurn();
  expect(others).toBeGreaterThanOrEqual(8);
});
