import { LongctxError, listed } from "../common/errors.ts";
import { instantiate, type MethodDefinition } from "./definition.ts";
import type { Method } from "./method.ts";
import { readParameter, type JsonReader, type ParameterValue } from "./parameters.ts";

/** The methods that a program offers, by name, and the parser of specs such as `yarn:factor=4+logn`. */
export class MethodRegistry {
  readonly #rows = new Map<string, MethodDefinition>();
  readonly #readJson: JsonReader | undefined;

  /**
   * `readJson` reads the JSON files that specs name; without it, as in a browser, specs that name a file are refused.
   */
  constructor(rows: Iterable<MethodDefinition>, readJson?: JsonReader) {
    this.#readJson = readJson;
    for (const row of rows) {
      if (this.#rows.has(row.name)) throw new LongctxError("method", `Two methods are called ${row.name}.`);
      this.#rows.set(row.name, row);
    }
  }

  get rows(): readonly MethodDefinition[] {
    return [...this.#rows.values()];
  }

  /**
   * Makes the methods that a spec names, in the spec's order: `yarn:factor=4+streaming:sinks=4,window=1020` names two.
   * @throws LongctxError "method" where a name or a parameter is wrong, "file" where a file cannot be read
   */
  parse(spec: string): Method[] {
    return spec.split("+").map((part) => this.#parseOne(part.trim(), spec));
  }

  #parseOne(part: string, spec: string): Method {
    const colon = part.indexOf(":");
    const name = (colon < 0 ? part : part.slice(0, colon)).trim();
    const row = this.#rows.get(name);
    if (!row)
      throw new LongctxError(
        "method",
        `There is no method "${name}" in "${spec}"; there is ${listed(this.#rows.keys())}.`,
      );
    const given = new Map<string, ParameterValue>();
    for (const pair of colon < 0 ? [] : part.slice(colon + 1).split(",")) {
      const [before, text, ...rest] = pair.split("=");
      const key = before.trim();
      const takes = `it takes ${Object.keys(row.parameters).join(", ") || "none"}`;
      if (key === "")
        throw new LongctxError(
          "method",
          `A parameter is missing in "${part}": write KEY=VALUE after ":" and between commas, or leave the sign out; ${takes}.`,
        );
      if (!Object.hasOwn(row.parameters, key))
        throw new LongctxError("method", `${name} has no parameter "${key}" ("${spec}"); ${takes}.`);
      if (text === undefined || rest.length > 0 || text.trim() === "")
        throw new LongctxError("method", `Write ${name}'s parameter as ${key}=VALUE, not "${pair}".`);
      if (given.has(key)) throw new LongctxError("method", `${name} is given ${key} twice in "${spec}".`);
      given.set(key, readParameter(name, key, row.parameters[key], text, this.#readJson));
    }
    return instantiate(row, Object.fromEntries(given));
  }
}
