import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Decoded, Memory, Prefilled, Ready, Request, Settings } from "./protocol.ts";

export interface ContenderDefinition {
  readonly name: string;
  readonly ours: boolean;
  readonly command: string;
  readonly args: readonly string[];
  /** The settings to choose the fastest of, for each length and for prefill and decoding apart. */
  readonly choices: readonly Settings[];
}

const LONGCTX = new URL("./longctx-worker.ts", import.meta.url);
const LLAMA = new URL("./llama-worker.ts", import.meta.url);
const TRANSFORMERS = new URL("./transformers-worker.py", import.meta.url);

/** With the flags by which this process reads TypeScript. */
const typescript = (worker: URL): string[] => [...process.execArgv, fileURLToPath(worker)];

/** Everyone there is, ours first; each reads `model`. */
export function contenders(model: string, cores: number): ContenderDefinition[] {
  const ours = (["exact", "fast"] as const).map((precision) => ({
    name: `longctx ${precision}`,
    ours: true,
    command: process.execPath,
    args: [...typescript(LONGCTX), model, precision],
    choices: [{}],
  }));
  const threads = cores > 1 ? [cores, Math.ceil(cores / 2)] : [1];
  return [
    ...ours,
    {
      name: "llama.cpp",
      ours: false,
      command: process.execPath,
      args: [...typescript(LLAMA), model],
      choices: threads.flatMap((count) =>
        [true, false].flatMap((flashAttention) =>
          [512, 2048].map((batchSize) => ({ flashAttention, batchSize, threads: count })),
        ),
      ),
    },
    {
      name: "transformers",
      ours: false,
      command: process.env["LONGCTX_PYTHON"] || "python3",
      args: [fileURLToPath(TRANSFORMERS), model],
      choices: [{}],
    },
  ];
}

/** An engine in a process of its own, its model loaded. */
export class Contender {
  readonly definition: ContenderDefinition;
  readonly versions: Ready["versions"];
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #replies: AsyncIterator<string>;

  private constructor(
    definition: ContenderDefinition,
    process: ChildProcessWithoutNullStreams,
    replies: AsyncIterator<string>,
    { versions }: Ready,
  ) {
    this.definition = definition;
    this.#process = process;
    this.#replies = replies;
    this.versions = versions;
  }

  /** @throws Error with the engine's own words when it cannot load the model */
  static async start(definition: ContenderDefinition): Promise<Contender> {
    const child = spawn(definition.command, definition.args, { stdio: ["pipe", "pipe", "pipe"] });
    let complaints = "";
    child.stderr.on("data", (data: Buffer) => {
      complaints = (complaints + data.toString()).slice(-2000);
    });
    child.stdin.on("error", () => undefined); // a process that is gone has no answer, which says more
    const failed = new Promise<never>((_, reject) => child.once("error", reject));
    const replies = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    try {
      return new Contender(definition, child, replies, await Promise.race([read<Ready>(replies), failed]));
    } catch (error) {
      child.kill();
      const message = error instanceof Error ? error.message : String(error);
      throw new Error(`${message}${complaints ? ` (${lastLine(complaints)})` : ""}`, { cause: error });
    }
  }

  prefill(ids: readonly number[], room: number, settings: Settings): Promise<Prefilled> {
    return this.#ask({ command: "prefill", ids, room, settings });
  }

  decode(count: number): Promise<Decoded> {
    return this.#ask({ command: "decode", count });
  }

  async peakBytes(): Promise<number> {
    return (await this.#ask<Memory>({ command: "memory" })).peakBytes;
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.stdin.end();
    await ended;
  }

  async #ask<Reply>(request: Request): Promise<Reply> {
    this.#process.stdin.write(`${JSON.stringify(request)}\n`);
    try {
      return await read<Reply>(this.#replies);
    } catch (error) {
      throw new Error(`${this.definition.name}: ${error instanceof Error ? error.message : String(error)}`, {
        cause: error,
      });
    }
  }
}

/** The next line that is an answer; libraries write to stdout too. */
async function read<Reply>(replies: AsyncIterator<string>): Promise<Reply> {
  for (;;) {
    const { value, done } = await replies.next();
    if (done) throw new Error("the process ended without an answer");
    if (!value.startsWith("{")) continue;
    const reply = JSON.parse(value) as Reply & { readonly error?: string };
    if (reply.error !== undefined) throw new Error(reply.error);
    return reply;
  }
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1)!;
}
