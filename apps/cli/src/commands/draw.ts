import { join } from "node:path";
import { Option, type Command } from "commander";
import {
  exampleMethod,
  LongctxError,
  methods,
  parseMethod,
  planOfText,
  type Method,
  type RotationOptions,
} from "longctx";
import { checkFolder, checkOutput, writeAtomically } from "../files.ts";
import type { Io } from "../io.ts";
import { numberOption, tokensOption } from "../options.ts";

interface DrawOptions {
  readonly length?: number;
  readonly trainedWindow: number;
  readonly base: number;
  readonly rotarySize: number;
  readonly all?: true;
  readonly out?: string;
}

export function addDraw(program: Command, io: Io): void {
  program
    .command("draw")
    .description("a method as a picture (SVG): the distance at which tokens meet, and how fast rotary pairs turn")
    .argument("[method]", "e.g. rerope:window=1024; see `longctx methods`")
    .addOption(tokensOption("--length <tokens>", "the text's length; 4 trained windows unless given"))
    .addOption(tokensOption("--trained-window <tokens>", "T").default(4096))
    .addOption(numberOption("--base <number>", "RoPE base b", { min: 1, above: true }).default(10_000))
    .addOption(
      numberOption("--rotary-size <channels>", "rotated channels of a head, d", { min: 2, integer: true }).default(64),
    )
    .option("--out <file>", "where the picture goes; standard output unless given")
    .addOption(new Option("--all", "every method with example parameters, as NAME.svg in the folder --out"))
    .action((spec: string | undefined, options: DrawOptions) => draw(spec, options, io));
}

async function draw(spec: string | undefined, options: DrawOptions, io: Io): Promise<void> {
  const { length, trainedWindow, base, rotarySize, all, out } = options;
  if ((spec === undefined) !== (all === true))
    throw new LongctxError("argument", "Give either a method, such as rerope:window=1024, or --all.");
  const method = spec === undefined ? undefined : parseMethod(spec);
  const rotation: RotationOptions = { length, trainedWindow, rope: { base, rotarySize } };
  if (method) {
    if (out !== undefined) await checkOutput(out);
    const picture = await drawing(method, rotation);
    if (out === undefined) io.out(picture);
    else await writeAtomically(out, (append) => append(picture));
    return;
  }
  if (out === undefined) throw new LongctxError("argument", "--all needs --out and a folder for the pictures.");
  await checkFolder(out);
  const examples = methods.rows.map((row) => ({ name: row.name, method: exampleMethod(row, rotarySize) }));
  // What one of them refuses is said before anything is written.
  for (const { method: example } of examples) planOfText(example, { ...rotation, length: length ?? 4 * trainedWindow });
  for (const { name, method: example } of examples) {
    if (io.signal.aborted) throw new LongctxError("aborted", `Stopped before ${name}, as asked.`);
    const picture = await drawing(example, rotation);
    await writeAtomically(join(out, `${name}.svg`), (append) => append(picture));
  }
}

/** Drawing takes a while to load, so other commands do not. */
async function drawing(method: Method, rotation: RotationOptions): Promise<string> {
  const { methodFigure } = await import("@longctx/figures");
  return methodFigure(method, rotation);
}
