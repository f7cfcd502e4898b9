import type { Capabilities } from "../device/kernel.ts";

/**
 * The largest of all threads' numbers, in three ways that give the same bits: eight by eight in workgroup memory, subgroups
 * of whatever size the device has, and subgroups of a given size played in workgroup memory (for tests of every size).
 * Subgroups leave what they found at the next free place, so nothing is assumed about their size or order. Nor that all
 * of one are together: whoever is elected of those that are leaves their maximum, and all take the whole from memory.
 */
export type Maximum = "eights" | "subgroups" | number;

export function maximumOf({ subgroups }: Pick<Capabilities, "subgroups">): Maximum {
  return subgroups ? "subgroups" : "eights";
}

export function maximumFeatures(maximum: Maximum): readonly GPUFeatureName[] {
  return maximum === "subgroups" ? ["subgroups"] : [];
}

/** Goes before everything else in a module. */
export function maximumDirective(maximum: Maximum): string {
  return maximum === "subgroups" ? "enable subgroups;\n" : "";
}

/** Declarations for `count` numbers a thread. */
export function maximumCode(maximum: Maximum, threads: number, count: number): string {
  const peaks = `var<workgroup> peaks: array<f32, ${threads * count}>;\n`;
  if (maximum === "eights") return `${peaks}var<workgroup> eighths: array<f32, ${(threads * count) / 8}>;\n`;
  const arrived = `${peaks}var<workgroup> arrived: atomic<u32>;\n`;
  if (maximum === "subgroups") return arrived;
  return `${arrived}var<workgroup> played: array<f32, ${threads}>;

fn subgroupLargest(number: f32, local: u32) -> f32 {
  played[local] = number;
  workgroupBarrier();
  let first = local / ${maximum}u * ${maximum}u;
  var largest = number;
  for (var i = first; i < min(first + ${maximum}u, ${threads}u); i++) { largest = max(largest, played[i]); }
  workgroupBarrier();
  return largest;
}
`;
}

/** Statements after which each variable named holds the largest of all threads; `local` is the thread's index. */
export function maximumSteps(maximum: Maximum, threads: number, names: readonly string[]): string {
  const each = (line: (name: string, i: number) => string, indent = "  ") =>
    names.map((name, i) => `${indent}${line(name, i)}\n`).join("");
  const place = (i: number, thread: string) => `peaks[${i * threads}u + ${thread}]`;
  const eighth = (i: number, thread: string) => `eighths[${(i * threads) / 8}u + ${thread}]`;
  if (maximum === "eights")
    return `${each((name, i) => `${place(i, "local")} = ${name};`)}  workgroupBarrier();
  if (local < ${threads / 8}u) {
${each((name) => `${name} = LOWEST;`, "    ")}    for (var i = 8u * local; i < 8u * local + 8u; i++) {
${each((name, i) => `${name} = max(${name}, ${place(i, "i")});`, "      ")}    }
${each((name, i) => `${eighth(i, "local")} = ${name};`, "    ")}  }
  workgroupBarrier();
  for (var i = 0u; i < ${threads / 8}u; i++) {
${each((name, i) => `${name} = max(${name}, ${eighth(i, "i")});`, "    ")}  }
`;
  const [largest, first] =
    maximum === "subgroups"
      ? [(name: string) => `subgroupMax(${name})`, "subgroupElect()"]
      : [(name: string) => `subgroupLargest(${name}, local)`, `local % ${maximum}u == 0u`];
  return `  workgroupBarrier();
${each((name) => `${name} = ${largest(name)};`)}  if (${first}) {
    let free = atomicAdd(&arrived, 1u);
${each((name, i) => `${place(i, "free")} = ${name};`, "    ")}  }
  workgroupBarrier();
${each((name) => `${name} = LOWEST;`)}  for (var i = 0u; i < atomicLoad(&arrived); i++) {
${each((name, i) => `${name} = max(${name}, ${place(i, "i")});`, "    ")}  }
`;
}
