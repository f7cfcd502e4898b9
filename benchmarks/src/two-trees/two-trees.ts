import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Precision } from "longctx";
import { novelText } from "../places.ts";
import { Progress, readingWork } from "../progress.ts";
import { median } from "../timing.ts";
import type { Answer, Command } from "./side.ts";

export interface TwoTreesOptions {
  /** Another checkout of the project, installed: the sources that this one is compared with. */
  readonly before: string;
  readonly model: string;
  readonly precisions: readonly Precision[];
  readonly lengths: readonly number[];
  readonly methods: readonly string[];
  readonly rounds: number;
}

/** Tokens that a side reads in a row, and decodes in a row, before the other side has its turn. */
const READ = 256;
const DECODED = 8;
const TURNS = 6;
/** Tokens that compile what a method needs. */
const WARM_UP = 600;

/**
 * This checkout against another one, on the cpu: prefill and a step of decoding, as the other's time over this one's. The
 * two take turns every few tokens, since what lasts seconds is at the mercy of what else the machine does.
 */
export async function compareTrees(options: TwoTreesOptions): Promise<void> {
  const { precisions, lengths, methods, rounds } = options;
  const tasks = methods.flatMap((spec) => lengths.map((length) => ({ spec, length })));
  const work = tasks.reduce((sum, { length }) => sum + 2 * readingWork(length), 0);
  const progress = new Progress(precisions.length * rounds * work);
  for (const precision of precisions) {
    const sides = [options.before, fileURLToPath(new URL("../../..", import.meta.url))].map(
      (checkout) => new Side(checkout, options.model, precision),
    );
    for (const side of sides) await side.loaded();
    for (const { spec, length } of tasks) await compareOnce(sides, spec, Math.min(length, WARM_UP), 0);
    for (const { spec, length } of tasks) {
      const ratios: Ratios[] = [];
      for (let round = 0; round < rounds; round++) {
        ratios.push(await compareOnce(sides, spec, length, round));
        progress.step(`${precision}, ${spec} at ${length}, round ${round + 1}`, 2 * readingWork(length));
      }
      console.log(`${precision}, ${spec}, ${length} tokens: prefill ${range(ratios.map(({ prefill }) => prefill))}, decode ${range(ratios.map(({ decode }) => decode))}`); // prettier-ignore
    }
    for (const side of sides) side.end();
  }
}

/** The other checkout's time over this one's. */
interface Ratios {
  readonly prefill: number;
  readonly decode: number;
}

async function compareOnce(sides: readonly Side[], spec: string, length: number, round: number): Promise<Ratios> {
  const prefill = [0, 0];
  const decode: [number[], number[]] = [[], []];
  const inTurn = (turn: number) => ((turn + round) % 2 === 0 ? [0, 1] : [1, 0]);
  const steps = TURNS * (DECODED + 2);
  for (const side of sides) await side.ask({ act: "open", spec, capacity: length + steps });
  for (let from = 0, turn = 0; from < length; from += READ, turn++)
    for (const i of inTurn(turn)) {
      const { time } = await sides[i].ask({ act: "read", from, to: Math.min(length, from + READ), length });
      prefill[i] += time;
    }
  for (let turn = 0; turn < TURNS; turn++)
    for (const i of inTurn(turn)) decode[i].push((await sides[i].ask({ act: "decode", count: DECODED })).time);
  return { prefill: prefill[0] / prefill[1], decode: median(decode[0]) / median(decode[1]) };
}

/** A checkout in a process of its own. */
class Side {
  readonly #process;
  readonly #answers: AsyncIterator<string>;

  constructor(checkout: string, model: string, precision: Precision) {
    const program = fileURLToPath(new URL("./side.ts", import.meta.url));
    const args = ["--import", "tsx", program, resolve(checkout), model, precision, novelText()];
    this.#process = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
    this.#answers = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  /** @throws Error when the process ended instead */
  async loaded(): Promise<Answer> {
    const { value, done } = await this.#answers.next();
    if (done) throw new Error("A side of the comparison ended early; what it said is above.");
    return JSON.parse(value) as Answer;
  }

  ask(command: Command): Promise<Answer> {
    this.#process.stdin.write(`${JSON.stringify(command)}\n`);
    return this.loaded();
  }

  end(): void {
    this.#process.stdin.end();
  }
}

function range(values: readonly number[]): string {
  return `${median(values).toFixed(2)} (${Math.min(...values).toFixed(2)} to ${Math.max(...values).toFixed(2)})`;
}
