import { expect } from "vitest";
import { Capture, type Method } from "@longctx/core";
import { DEVICES, difference, tinyIds, tinyModels } from "./devices.ts";

/** One random decoder on every device, and a text for it. */
export const models = tinyModels();
export const ids = tinyIds(160);

/** Any plan as a method. */
export function planned(segments: NonNullable<Method["segments"]>, temperature?: Method["temperature"]): Method {
  return { spec: "planned", axes: ["visibility", "distance", "temperature"], segments, temperature };
}

interface Reading {
  readonly chunk?: number;
  readonly looked?: boolean;
  readonly count?: number;
}

/** All logits on both devices, and that they agree. */
export async function expectSame(
  method: Method,
  { chunk = 16, looked = false, count = 60 }: Reading = {},
): Promise<Float32Array> {
  const [reference, cpu] = await Promise.all(
    DEVICES.map((device) =>
      models[device].session({ method, chunk, capacity: 256 }).prefill(ids.slice(0, count), {
        logitRows: count,
        capture: looked ? new Capture({ layers: [0, 1] }) : undefined,
      }),
    ),
  );
  expect(difference(cpu, reference)).toBeLessThan(1e-4);
  return reference;
}
