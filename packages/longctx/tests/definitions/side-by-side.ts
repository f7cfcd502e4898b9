import { expect } from "vitest";
import type { LanguageModel, Session } from "@longctx/core";
import { methods } from "../../src/methods.ts";
import { Report, type Witness } from "./choosing.ts";
import { DenseSequence, type Rule } from "./dense-sequence.ts";
import { once, type JudgedModel } from "./judged-models.ts";
import { expectClose, expectGenerated, optionsOf, readCalls, start, type Place } from "./sequences.ts";
import { watch } from "./watch.ts";

/** A method of a device and its definition. */
export interface Subject {
  readonly judged: JudgedModel;
  readonly place: Place;
  readonly model: LanguageModel;
  readonly spec: string;
  readonly rule: (witness: Witness) => Rule;
  /** What decides where the device is not watched. */
  readonly foretold: Witness;
  /** What decides where it is; without it the device is not watched. */
  readonly watched?: (report: Report) => Witness;
  /** To which lengths a session can go back: to any, to none but 0, or as far as rings happen to reach. */
  readonly truncation: "any" | "only to 0" | "as far as rings reach";
}

/** What the definition read. */
interface Known {
  readonly logits: Float64Array;
  readonly after: DenseSequence;
}

/** A session of a device and the definition, which read the same and have to compute the same. */
export class SideBySide {
  readonly #subject: Subject;
  readonly #session: Session;
  readonly #report: Report | undefined;
  /** Names everything that was read, so that the definition computes it once for all devices. */
  #history: string;
  #definition: DenseSequence;
  /** The definition's logits [V] of the last token. */
  #last: ArrayLike<number> = [];

  static start(subject: Subject, chunk: number): SideBySide {
    const { judged, model, spec, rule, foretold, watched } = subject;
    const report = watched && new Report();
    const method = [...methods.parse(spec), ...(report ? [watch(report, judged.llama)] : [])];
    const definition = new DenseSequence(judged.llama, rule(report ? watched(report) : foretold));
    return new SideBySide(subject, start(model, method, chunk), definition, report, spec);
  }

  private constructor(
    subject: Subject,
    session: Session,
    definition: DenseSequence,
    report: Report | undefined,
    history: string,
  ) {
    this.#subject = subject;
    this.#session = session;
    this.#definition = definition;
    this.#report = report;
    this.#history = history;
  }

  /** Reads tokens by as many a call of prefill as given, and compares all logits. */
  async read(ids: readonly number[], calls: readonly number[] = [ids.length]): Promise<void> {
    const computed = await readCalls(this.#session, ids, calls);
    expectClose(computed, this.#defined(ids, calls), this.#subject.place);
  }

  /** Reads tokens of which no logits are asked for. */
  async begin(ids: readonly number[]): Promise<void> {
    if (this.#report) return this.read(ids); // a last layer may report its last row alone
    await this.#session.prefill(ids);
    this.#defined(ids, [ids.length]);
  }

  /** Generates, and compares the tokens with the most likely ones. */
  async generate(count: number): Promise<void> {
    const before = this.#session.length;
    const definition = (text: readonly number[]) => {
      const { vocabSize } = this.#session.model.config;
      const logits = new Float64Array(text.length * vocabSize);
      logits.set(this.#last, (before - 1) * vocabSize);
      const generated = text.slice(before);
      const calls = generated.map(() => 1);
      logits.set(this.#defined(generated, calls), before * vocabSize);
      return logits;
    };
    await expectGenerated(this.#session, count, definition, this.#subject.place);
  }

  fork(): SideBySide {
    const { rule, foretold, watched } = this.#subject;
    const definition = this.#definition.fork(rule(this.#report ? watched!(this.#report) : foretold));
    return new SideBySide(this.#subject, this.#session.fork(), definition, this.#report, this.#history);
  }

  /** Truncates, or compares the refusal: a typed error after which the session is as it was. */
  truncate(length: number): void {
    const { truncation } = this.#subject;
    const before = this.#session.length;
    const refusal = refusalOf(() => this.#session.truncate(length));
    expectRefusal(refusal, truncation, length, before);
    expectLength(this.#session, refusal ? before : length);
    if (refusal) return;
    this.#definition = this.#definition.fork();
    this.#definition.truncate(length);
    this.#history += ` truncated to ${length}`;
  }

  /** Saves the session and restores it, to be read in chunks of another size where rings allow that. */
  async restored(chunk: number): Promise<SideBySide> {
    const { method, options: before } = this.#session;
    const rings = this.#subject.truncation === "as far as rings reach";
    const options = { ...optionsOf(method.parts), chunk: rings ? before.chunk : chunk };
    const session = this.#subject.model.restoreSession(await this.#session.save(), options);
    return new SideBySide(this.#subject, session, this.#definition.fork(), this.#report, this.#history);
  }

  dispose(): void {
    this.#session.dispose();
    expectNoBytes(this.#session);
  }

  /** Logits [T, V] of what the definition reads on. */
  #defined(ids: readonly number[], calls: readonly number[]): Float64Array {
    const read = (): Known => {
      const after = this.#report ? this.#definition : this.#definition.fork();
      return { logits: after.read(ids, calls), after };
    };
    this.#history += ` ${JSON.stringify([ids, calls])}`;
    const { logits, after } = this.#report ? read() : once(this.#subject.judged, this.#history, read);
    this.#definition = after;
    this.#last = logits.subarray(-this.#session.model.config.vocabSize);
    return logits;
  }
}

/** Returns what is thrown, or null. */
export function refusalOf(act: () => void): unknown {
  try {
    act();
    return null;
  } catch (error) {
    return error;
  }
}

/** Compares what came of a truncation with what the definition allows. */
function expectRefusal(refusal: unknown, truncation: Subject["truncation"], length: number, before: number): void {
  const typed: unknown = expect.objectContaining({ name: "LongctxError", code: "capacity" });
  const must = truncation === "only to 0" && length !== 0 && length !== before;
  const may = truncation === "as far as rings reach" && refusal !== null;
  expect(refusal).toEqual(must || may ? typed : null);
}

function expectLength(session: Session, length: number): void {
  expect(session.length).toBe(length);
}

function expectNoBytes(session: Session): void {
  expect(session.bytes).toBe(0);
}
