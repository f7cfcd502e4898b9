import { LongctxError, methods, type MethodDefinition } from "longctx";
import type { Prompt } from "@longctx/tasks";

/** What controls take from a prompt: the place of the asked needle, and a seed. */
export type ControlPrompt = Pick<Prompt, "needles" | "sha256">;

/** Between a method and the control that goes on in its place from the question on. */
const THEN = /\s+then\s+/;

/** A label taken apart: `blocks:local=1024 then oracle-block` is a method and a control, each as a spec. */
export interface LabelParts {
  readonly method: string;
  /** With the parameters that it shares with the method and does not give itself; null where there is no control. */
  readonly control: string | null;
}

/** @throws LongctxError "method" where there is more than one control */
export function partsOfLabel(label: string): LabelParts {
  const [method, control = null, ...more] = label.trim().split(THEN);
  if (more.length > 0)
    throw new LongctxError(
      "method",
      `"${label}" names ${more.length + 1} controls; write one method and one control, as in "blocks:local=1024 then oracle-block".`,
    );
  return { method, control: control === null ? null : withShared(control, method) };
}

/** The parameters of one method of a spec, as they are written; a method that is none has no row. */
interface Part {
  readonly name: string;
  readonly given: ReadonlyMap<string, string>;
  readonly row: MethodDefinition | undefined;
}

function partsOf(spec: string): Part[] {
  return spec.split("+").map((text) => {
    const [name, ...parameters] = text.trim().split(/[:,]/);
    const given = parameters.map((pair) => {
      const [key, ...value] = pair.split("=");
      return [key.trim(), value.join("=")] as const;
    });
    return { name: name.trim(), given: new Map(given), row: methods.rows.find((row) => row.name === name.trim()) };
  });
}

/** A spec whose methods get more parameters, behind those that are written. */
function withParameters(spec: string, more: (part: Part) => Readonly<Record<string, string | number>>): string {
  const texts = spec.split("+");
  return partsOf(spec)
    .map((part, i) => {
      const added = Object.entries(more(part)).map(([key, value]) => `${key}=${value}`);
      if (added.length === 0) return texts[i];
      return `${texts[i]}${part.given.size > 0 ? "," : ":"}${added.join(",")}`;
    })
    .join("+");
}

/**
 * A control's parameters that are not given are those of its method under the same names, given or by default, so that
 * both see as many tokens.
 */
function withShared(control: string, method: string): string {
  const before = partsOf(method);
  return withParameters(control, ({ row, given }) => {
    const shared: Record<string, string | number> = {};
    for (const [key, { default: own }] of Object.entries(row?.parameters ?? {})) {
      if (given.has(key)) continue;
      const giver = before.find((part) => part.given.has(key));
      const defaults = before.map((part) => part.row?.parameters[key]?.default);
      const fallback = defaults.find((value) => typeof value === "number" || typeof value === "string");
      if (giver) shared[key] = giver.given.get(key)!;
      else if (fallback !== undefined && fallback !== own) shared[key] = fallback;
    }
    return shared;
  });
}

/** A spec for one prompt: `oracle-block` gets the asked needle's place, `random-blocks` a seed, unless they are given. */
export function specForPrompt(spec: string, { needles: [needle], sha256 }: ControlPrompt): string {
  return withParameters(spec, ({ name, given }): Record<string, number> => {
    if (name === "oracle-block" && !given.has("from") && !given.has("to"))
      return { from: needle.start, to: needle.end };
    if (name === "random-blocks" && !given.has("seed")) return { seed: Number.parseInt(sha256.slice(0, 8), 16) };
    return {};
  });
}
