import { callsOf } from "./sequences.ts";
import { SideBySide, type Subject } from "./side-by-side.ts";

/** A way to read a text of 160 tokens and more under a method, beside its definition. */
export type Way = (subject: Subject, text: readonly number[]) => Promise<void>;

const ones = (count: number) => Array.from({ length: count }, () => 1);

/** Reads the first tokens of a text in chunks of several sizes. */
const inChunks =
  (length: number, ...chunks: readonly number[]): Way =>
  async (subject, text) => {
    for (const chunk of chunks) {
      const reading = SideBySide.start(subject, chunk);
      await reading.read(text.slice(0, length));
      reading.dispose();
    }
  };

/** Reads 160 tokens by calls. */
const byCalls =
  (...calls: readonly number[]): Way =>
  async (subject, text) =>
    SideBySide.start(subject, 64).read(text.slice(0, 160), calls);

/** What happens to a text of 70 tokens before it is read on. */
const changed =
  (change: (reading: SideBySide, others: readonly number[], text: readonly number[]) => Promise<void>): Way =>
  async (subject, text) => {
    const reading = SideBySide.start(subject, 64);
    await reading.begin(text.slice(0, 70));
    await change(reading, text.slice(160), text);
    reading.dispose();
  };

/** The ways, by name. `text` has 200 tokens: two texts go on from the first 70, by tokens 70 to 159 or by the last 40. */
export const WAYS = {
  "48 tokens, in chunks": inChunks(48, 1, 7, 64),
  "160 tokens, in chunks": inChunks(160, 64, 160),
  "by three calls": byCalls(...callsOf(160)["by three calls"]),
  "a prompt, then token by token": byCalls(136, ...ones(24)),
  "token by token": async (subject, text) => SideBySide.start(subject, 64).read(text.slice(0, 60), ones(60)),
  generating: changed(async (reading) => reading.generate(21)),
  "after a fork, in both branches and in a branch of a branch": changed(async (trunk, others, text) => {
    const branch = trunk.fork();
    await branch.read(others.slice(0, 15), [12, 1, 1, 1]);
    const twig = branch.fork();
    await trunk.read(text.slice(70, 100), [20, 10]);
    trunk.dispose();
    for (const one of [twig, branch]) await one.read(others.slice(15), [1, 1, 23]);
  }),
  "after a fork and a save": changed(async (trunk, others, text) => {
    const branch = trunk.fork();
    await branch.read(others.slice(0, 15), [12, 1, 1, 1]);
    const restored = await branch.restored(7);
    await trunk.read(text.slice(70, 90), [19, 1]);
    await restored.read(others.slice(15), [1, 24]);
  }),
  "after truncation": changed(async (reading, others) => {
    for (const kept of [69, 50, 9, 0]) {
      const one = reading.fork();
      one.truncate(kept);
      await one.read(others, [22, 1, 1, 16]);
      one.dispose();
    }
  }),
  "after it is saved and restored": changed(async (reading, others) => {
    const restored = await reading.restored(7);
    const twice = await restored.restored(64);
    await reading.read(others, [1, 30, 9]);
    await twice.fork().read(others, [1, 30, 9]);
  }),
} satisfies Readonly<Record<string, Way>>;

export type WayName = keyof typeof WAYS;
