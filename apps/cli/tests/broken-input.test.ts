import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { withBytes, withConfig, withHeader } from "./broken-checkpoints.ts";
import { cli, LLAMA, ROOT, spawnCli, type Outcome } from "./command-line.ts";

const folder = mkdtempSync(join(tmpdir(), "longctx-broken-"));
const out = join(folder, "out.json");
const file = (name: string, text: string): string => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const ids = file("ids.json", "[1, 17, 42]");
const logits = (model: string, ...more: string[]) => [
  "logits",
  model,
  "--ids",
  ids,
  "--out",
  out,
  "--device",
  "reference",
  ...more,
];
const config = (name: string, change: (config: Record<string, unknown>) => void) =>
  logits(withConfig(folder, name, change));
const longrope = (path: string) => logits(LLAMA, "--method", `longrope:factors=${path},factor=4`);

beforeAll(() => mkdirSync(folder, { recursive: true }));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** One readable line, no stack, exit code 1, at once. */
function expectRefusal({ code, err, seconds }: Outcome, words: readonly string[]): void {
  for (const word of words) expect(err).toContain(word);
  expect(err).toMatch(/^longctx: [^\n]+\n$/);
  expect(err).not.toContain("    at ");
  expect(err).not.toContain("defect");
  expect(code).toBe(1);
  expect(seconds).toBeLessThan(2);
}

type Case = readonly [what: string, argv: () => readonly string[], words: readonly string[]];

const FILES: readonly Case[] = [
  ["a path that does not exist", () => logits(join(folder, "nowhere")), ["nowhere"]],
  [
    "a header of a terabyte",
    () => logits(withBytes(folder, "terabyte", (bytes) => (bytes.writeBigUInt64LE(2n ** 40n), bytes))),
    ["model.safetensors", "1099511627776"],
  ],
  [
    "an offset beyond the file",
    () => logits(withHeader(folder, "offset", "model.norm.weight", (entry) => (entry.data_offsets[1] += 2 ** 40))),
    ["model.safetensors", "model.norm.weight"],
  ],
  [
    "a shape that is not that of its bytes",
    () => logits(withHeader(folder, "shape", "model.norm.weight", (entry) => (entry.shape = [2 ** 30]))),
    ["model.safetensors", "model.norm.weight"],
  ],
  [
    "weights of another model",
    () => config("size", (c) => (c["hidden_size"] = 128)),
    ["embed_tokens", "[256, 64]", "[256, 128]"],
  ],
  ["a config that is not JSON", () => logits(withConfigText("not-json", '{ "model_type": ')), ["config.json"]],
  [
    "an unknown RoPE type",
    () => config("rope", (c) => (c["rope_parameters"] = { rope_type: "spiral", rope_theta: 10000 })),
    ["config.json", "spiral", "yarn"],
  ],
  [
    "an unknown activation",
    () => config("activation", (c) => (c["hidden_act"] = "mish")),
    ["config.json", "hidden_act", "mish", "silu"],
  ],
  [
    "an unknown model type",
    () => config("type", (c) => (c["model_type"] = "mamba9")),
    ["config.json", "mamba9", "llama"],
  ],
  [
    "no heads",
    () => config("heads", (c) => (c["num_attention_heads"] = 0)),
    ["config.json", "num_attention_heads", "0"],
  ],
];

const ARGUMENTS: readonly Case[] = [
  [
    "ids past the vocabulary",
    () => ["logits", LLAMA, "--ids", file("past.json", "[1, 256]"), "--out", out],
    ["256", "255"],
  ],
  [
    "an id that is no number",
    () => ["logits", LLAMA, "--ids", file("text.json", '[1, "two"]'), "--out", out],
    ["text.json", '"two"'],
  ],
  ["an empty list of ids", () => ["logits", LLAMA, "--ids", file("empty.json", "[]"), "--out", out], ["empty.json"]],
  [
    "ids that are not JSON",
    () => ["logits", LLAMA, "--ids", file("cut.json", "[1,\n2,"), "--out", out],
    ["cut.json", "JSON"],
  ],
  [
    "ids that are missing",
    () => ["logits", LLAMA, "--ids", join(folder, "none.json"), "--out", out],
    ["none.json", "does not exist"],
  ],
  [
    "an output folder that does not exist",
    () => ["logits", LLAMA, "--ids", ids, "--out", join(folder, "no/where/out.json")],
    ["--out", "no/where"],
  ],
  ["an output that is a folder", () => ["logits", LLAMA, "--ids", ids, "--out", folder], ["--out", "folder"]],
  ["an unknown device", () => [...logits(LLAMA).slice(0, -2), "--device", "abacus"], ["abacus", "reference", "cpu"]],
  ["an unknown precision", () => logits(LLAMA, "--precision", "rough"), ["--precision", "rough", "exact"]],
  ["an unknown method", () => logits(LLAMA, "--method", "stretch"), ["stretch", "yarn"]],
  ["an empty method", () => logits(LLAMA, "--method", ""), ['""', "yarn"]],
  ["an unknown parameter", () => logits(LLAMA, "--method", "yarn:size=4"), ["yarn", "size", "factor"]],
  ["a factor that is not a number", () => logits(LLAMA, "--method", "yarn:factor=NaN"), ["factor", "NaN"]],
  ["a parameter that is missing", () => logits(LLAMA, "--method", "yarn"), ["yarn", "factor"]],
  [
    "two methods on one axis",
    () => logits(LLAMA, "--method", "yarn:factor=2+ntk:factor=2"),
    ["yarn:factor=2", "ntk:factor=2", "frequencies"],
  ],
  [
    "a word that is not one of those",
    () => logits(LLAMA, "--method", "yarn:factor=4,form=dict"),
    ["form", "dict", "code or paper"],
  ],
  ["bands out of order", () => logits(LLAMA, "--method", "truncation:low=1"), ["low is 1", "high"]],
  [
    "a trained window without a logarithm",
    () => logits(LLAMA, "--method", "logn", "--trained-window", "1"),
    ["window T is 1"],
  ],
  ["a method's file that is missing", () => longrope(join(folder, "none.json")), ["none.json", "does not exist"]],
  ["a method's file that is a folder", () => longrope(folder), [folder, "not a file"]],
  [
    "a method's file that is too long",
    () => longrope(file("long.json", " ".repeat(1_000_001))),
    ["long.json", "1000001"],
  ],
  ["a method's file that is not JSON", () => longrope(file("nan.json", '{"short": [1,\nNaN]}')), ["nan.json", "NaN"]],
  ["a method's file without a list", () => longrope(file("half.json", '{"short": [1]}')), ["half.json", "long_factor"]],
  [
    "a list with a text",
    () => longrope(file("text.json", '{"short": [1], "long": ["2"]}')),
    ["text.json", "long[0]", '"2"'],
  ],
  ["an infinite factor", () => longrope(file("big.json", '{"short": [1], "long": [1e999]}')), ["big.json", "Infinity"]],
  ["a factor of 0", () => longrope(file("zero.json", '{"short": [0], "long": [1]}')), ["zero.json", "short[0] is 0"]],
  [
    "a list of another size",
    () => longrope(file("one.json", '{"short": [1], "long": [1]}')),
    ["one.json", "1 factors", "8 pairs"],
  ],
  ["a chunk of 0", () => logits(LLAMA, "--chunk", "0"), ["--chunk", "0"]],
  ["a negative chunk", () => logits(LLAMA, "--chunk", "-1"), ["--chunk", "-1"]],
  ["an empty number", () => logits(LLAMA, "--last", ""), ["--last", '""']],
  ["half a row", () => logits(LLAMA, "--last", "1.5"), ["--last", "1.5"]],
  ["a window of nothing", () => logits(LLAMA, "--trained-window", "NaN"), ["--trained-window", "NaN"]],
  ["a text that is missing", () => ["perplexity", "tiny", join(folder, "none.txt")], ["none.txt", "does not exist"]],
  ["a text of one token", () => ["perplexity", "tiny", file("short.txt", "")], ["2 tokens"]],
  [
    "a text shorter than asked for",
    () => ["perplexity", "tiny", file("few.txt", "the sailor"), "--length", "4k"],
    ["--length", "4096", "few.txt"],
  ],
  ["a text that is not UTF-8", () => ["perplexity", "tiny", latin1("caf\u00e9")], ["latin1.txt", "UTF-8"]],
  ["a model without a tokenizer", () => ["generate", LLAMA, "hello"], ["tokenizer"]],
  ["a negative temperature", () => ["generate", "tiny", "the", "--temperature", "-1"], ["--temperature", "-1"]],
  [
    "a temperature that is not a number",
    () => ["generate", "tiny", "the", "--temperature", "warm"],
    ["--temperature", "warm"],
  ],
  ["a share above 1", () => ["generate", "tiny", "the", "--top-p", "2"], ["--top-p", "2"]],
  ["a prompt larger than the cache", () => ["generate", "tiny", "the the the the", "--capacity", "2"], ["capacity"]],
  ["lengths that are not numbers", () => ["inspect", "tiny", "--lengths", "2k,many"], ["--lengths", "many"]],
  ["an unknown command", () => ["logit"], ["logit", "logits"]],
  ["an unknown option", () => ["methods", "--jsno"], ["--jsno", "--json"]],
  ["a missing argument", () => ["generate", "tiny"], ["prompt"]],
  ["a missing option", () => ["logits", "tiny", "--ids", ids], ["--out"]],
  ["an argument too many", () => ["methods", "yarn"], ["methods"]],
];

function withConfigText(name: string, text: string): string {
  const path = withConfig(folder, name, () => undefined);
  writeFileSync(join(path, "config.json"), text);
  return path;
}

function latin1(text: string): string {
  const path = join(folder, "latin1.txt");
  writeFileSync(path, Buffer.from(text, "latin1"));
  return path;
}

describe("a damaged model", () => {
  it.each(FILES)("%s", async (_, argv, words) => expectRefusal(await cli(argv()), words));

  const bytes = readFileSync(join(LLAMA, "model.safetensors"));
  it.each([0, 1, 7, 8, 9, 500, 2000, 5000, bytes.length >> 1, bytes.length - 1])(
    "safetensors cut after %i bytes",
    async (size) => {
      const path = withBytes(folder, `cut-${size}`, (whole) => whole.subarray(0, size));
      expectRefusal(await cli(logits(path)), ["model.safetensors"]);
    },
  );

  const gguf = readFileSync(join(ROOT, "packages/loaders/tests/data/every-type.gguf"));
  it.each([3, 4, 12, 23, 24, 30, 100, gguf.length >> 1])("GGUF cut after %i bytes", async (size) => {
    const path = join(folder, `cut-${size}.gguf`);
    writeFileSync(path, gguf.subarray(0, size));
    expectRefusal(await cli(logits(path)), [`cut-${size}.gguf`]);
  });
});

describe("a wrong argument", () => {
  it.each(ARGUMENTS)("%s", async (_, argv, words) => expectRefusal(await cli(argv()), words));
});

// Again when the machine was busy in between: the two seconds hold for a machine that is not.
describe("in a process of its own", { retry: 2 }, () => {
  it.each([
    [
      "a damaged model",
      () => logits(withBytes(folder, "spawned", (whole) => whole.subarray(0, 3000))),
      ["model.safetensors"],
    ],
    ["an unknown device", () => [...logits(LLAMA).slice(0, -2), "--device", "abacus"], ["abacus"]],
    ["a usage error", () => ["logits", LLAMA], ["--ids"]],
  ] satisfies Case[])("%s", async (_, argv, words) => expectRefusal(await spawnCli(argv(), folder), words));

  it("--debug shows the stack", async () => {
    const { code, err } = await spawnCli(["--debug", "tokenize", join(folder, "nowhere"), "text"], folder);
    expect(code).toBe(1);
    expect(err).toContain("    at ");
  });
});
