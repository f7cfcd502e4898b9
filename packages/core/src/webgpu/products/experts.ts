import type { ExpertsConfig } from "../../model/config.ts";
import { spread, type Capabilities, type Dispatch, type GpuSlice, type Kernel } from "../device/kernel.ts";
import { declareKernel, memoised, workgroupEntry } from "../device/declare.ts";

const kernelOf = memoised(routeKernel);

/** Invocations of a workgroup, and how many of them share a row of the router. */
const SIZE = 128;
const TEAM = 16;

/** What changes the code of routing. */
export type RouteKey = Pick<ExpertsConfig, "count" | "perToken" | "renormalise">;

/**
 * Which experts a token goes through: the k likeliest of softmax(router · norm(x)), likeliest first, of equal ones those
 * with the smaller numbers, and their weights. A workgroup for each token; what an expert is ranked by is how many are
 * before it, so nothing is sorted. The router comes with the gain of the norm in it.
 *
 *     input [T, hidden], router [E, hidden] → routes [T, k]: an expert's number and the bits of its weight
 */
export function routeKernel({ count, perToken, renormalise }: RouteKey): Kernel {
  return declareKernel({
    name: ["route", count, perToken, renormalise ? "renormalised" : ""].filter(Boolean).join(" "),
    storage: [
      ["input", "vec4<f32>", "read"],
      ["router", "vec4<f32>", "read"],
      ["routes", "vec2<u32>", "write"],
    ],
    // Columns and the offset count vectors of four.
    uniforms: { tokens: "u32", columns: "u32", input_offset: "u32", epsilon: "f32" },
    body: `
const EXPERTS = ${count}u;
const CHOSEN = ${perToken}u;
const LANES = ${TEAM}u;

var<workgroup> partials: array<f32, ${SIZE}>;
var<workgroup> logits: array<f32, EXPERTS>;
var<workgroup> ranks: array<u32, EXPERTS>;

${workgroupEntry({ threads: SIZE, unit: "token", of: "tokens" })}
  let row = uniforms.input_offset + token * uniforms.columns;
  var squares = 0.0;
  for (var i = own; i < uniforms.columns; i += ${SIZE}u) {
    squares += dot(input[row + i], input[row + i]);
  }
  partials[own] = squares;
  workgroupBarrier();
  for (var reach = ${SIZE / 2}u; reach > 0u; reach /= 2u) {
    if (own < reach) {
      partials[own] += partials[own + reach];
    }
    workgroupBarrier();
  }
  let factor = 1.0 / sqrt(partials[0] / (4.0 * f32(uniforms.columns)) + uniforms.epsilon);
  workgroupBarrier();

  for (var first = 0u; first < EXPERTS; first += ${SIZE}u / LANES) {
    let expert = first + own / LANES;
    var sum = 0.0;
    if (expert < EXPERTS) {
      for (var i = own % LANES; i < uniforms.columns; i += LANES) {
        sum += dot(router[expert * uniforms.columns + i], input[row + i]);
      }
    }
    partials[own] = sum;
    workgroupBarrier();
    if (own % LANES == 0u && expert < EXPERTS) {
      for (var lane = 1u; lane < LANES; lane++) {
        sum += partials[own + lane];
      }
      logits[expert] = sum * factor;
    }
    workgroupBarrier();
  }

  for (var expert = own; expert < EXPERTS; expert += ${SIZE}u) {
    var rank = 0u;
    for (var other = 0u; other < EXPERTS; other++) {
      let before = logits[other] > logits[expert] || (logits[other] == logits[expert] && other < expert);
      rank += select(0u, 1u, before);
    }
    ranks[expert] = rank;
  }
  workgroupBarrier();

  for (var expert = own; expert < EXPERTS; expert += ${SIZE}u) {
    if (ranks[expert] < CHOSEN) {
      var largest = logits[expert];
      for (var other = 0u; other < EXPERTS; other++) {
        largest = max(largest, logits[other]);
      }
      var total = 0.0;
      for (var other = 0u; other < EXPERTS; other++) {
        total += ${renormalise ? "select(0.0, power_of(other, largest), ranks[other] < CHOSEN)" : "power_of(other, largest)"};
      }
      let weight = power_of(expert, largest) / total;
      routes[token * CHOSEN + ranks[expert]] = vec2<u32>(expert, bitcast<u32>(weight));
    }
  }
}

fn power_of(expert: u32, largest: f32) -> f32 {
  return exp(max(logits[expert] - largest, -80.0));
}`,
  });
}

/** Numbers count floats. */
export interface Routing {
  readonly experts: RouteKey;
  /** T. */
  readonly tokens: number;
  /** [T, hidden], from the offset on. */
  readonly input: GpuSlice;
  readonly inputOffset?: number;
  readonly hiddenSize: number;
  /** [E, hidden], times the gain of the norm. */
  readonly router: GpuSlice;
  readonly epsilon: number;
  /** `routeBytes` */
  readonly routes: GpuSlice;
}

export function routeBytes(tokens: number, { perToken }: RouteKey): number {
  return 8 * tokens * perToken;
}

export function routeTokens(work: Routing, capabilities: Capabilities): Dispatch {
  const { experts, tokens, input, inputOffset = 0, hiddenSize, router, epsilon, routes } = work;
  return {
    kernel: kernelOf(experts),
    buffers: [input, router, routes],
    uniforms: [tokens, hiddenSize / 4, inputOffset / 4, epsilon],
    workgroups: spread(tokens, capabilities),
  };
}
