import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import type { Engine, Memory, Request } from "./protocol.ts";

/** The life of a contender's process: loads, then answers until its stdin ends. An error is an answer too. */
export async function serve(load: (model: string) => Promise<Engine>): Promise<never> {
  try {
    const engine = await load(process.argv[2]);
    reply({ versions: engine.versions });
    for await (const line of createInterface({ input: process.stdin }))
      reply(await answer(engine, JSON.parse(line) as Request));
    process.exit(0);
  } catch (error) {
    reply({ error: error instanceof Error ? error.message : String(error) });
    process.exit(1);
  }
}

function answer(engine: Engine, request: Request): Promise<object> {
  switch (request.command) {
    case "prefill":
      return engine.prefill(request.ids, request.room, request.settings);
    case "decode":
      return engine.decode(request.count);
    case "memory":
      return Promise.resolve<Memory>({ peakBytes: peakBytes() });
    default:
      throw new Error(`There is no command ${JSON.stringify(request)}.`);
  }
}

function reply(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

/** Linux's own count: `maxRSS` begins with what the parent had when it forked. */
function peakBytes(): number {
  if (process.platform !== "linux") return process.resourceUsage().maxRSS * 1024;
  const [, kilobytes] = /VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))!;
  return Number(kilobytes) * 1024;
}

export function secondsSince(begin: number): number {
  return (performance.now() - begin) / 1000;
}
