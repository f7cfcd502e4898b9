import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";

/** What a measurement depends on, without names of machines. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly platform: string;
  readonly node: string;
}

export function describeMachine(): Machine {
  return {
    cpu: [cpus()[0]?.model.trim() ?? "unknown", ...instructionSets()].join(", "),
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    platform: `${process.platform}-${process.arch}`,
    node: process.versions.node,
  };
}

/** Those that decide how fast products of matrices are; virtual machines often have a CPU without a model name. */
function instructionSets(): string[] {
  if (process.platform !== "linux") return [];
  const flags = new Set(/^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1].split(" "));
  return Object.entries({ avx2: "AVX2", avx512f: "AVX-512", avx512_vnni: "VNNI", amx_tile: "AMX" })
    .filter(([flag]) => flags.has(flag))
    .map(([, name]) => name);
}

export function sourceRevision(): string {
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    }).trim();
  } catch {
    return "unknown";
  }
}
