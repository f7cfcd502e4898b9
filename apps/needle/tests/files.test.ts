import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openRunFolder } from "../src/files/manifest.ts";
import { readSamples, SamplesFile } from "../src/files/samples-file.ts";
import { writeWhole } from "../src/files/writing.ts";
import { identity, record } from "./records.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "needle-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe("samples.jsonl", () => {
  const path = (): string => join(folder, "samples.jsonl");
  const filled = (count: number): void => {
    const file = new SamplesFile(path());
    for (let trial = 0; trial < count; trial++) file.append(record({ trial }));
    file.close();
  };

  it("is read as it was written", () => {
    filled(3);
    expect([...readSamples(path()).records.values()]).toEqual([0, 1, 2].map((trial) => record({ trial })));
  });

  it.each([1, 20, 400])("loses a line torn after %i bytes, and only that", (bytes) => {
    filled(3);
    const whole = readFileSync(path());
    appendFileSync(path(), JSON.stringify(record({ trial: 3 })).slice(0, bytes));
    const file = new SamplesFile(path());
    expect(file.records.size).toBe(3);
    expect(readFileSync(path())).toEqual(whole);
    file.append(record({ trial: 3 }));
    file.close();
    expect(readSamples(path()).records.size).toBe(4);
  });

  it("refuses a damaged line in the middle and names it", () => {
    filled(2);
    const [first, second] = readFileSync(path(), "utf8").split("\n") as [string, string];
    writeFileSync(path(), `${first}\n{"v":1\n${second}\n`);
    expect(() => new SamplesFile(path())).toThrow(/samples\.jsonl, line 2 is not JSON/);
    writeFileSync(path(), `${first}\n${second.replace('"trial":1', '"trial":"one"')}\n`);
    expect(() => new SamplesFile(path())).toThrow(/samples\.jsonl, line 2 is not a sample: trial: /);
  });

  it("does not write what it would not read", () => {
    const file = new SamplesFile(path());
    expect(() => file.append(record({ depth_requested: 120 }))).toThrow(/depth_requested/);
    file.close();
    expect(readSamples(path()).records.size).toBe(0);
  });
});

describe("a run's folder", () => {
  it("takes the same run again and keeps its manifest", () => {
    const first = openRunFolder(folder, identity, "tiny", false);
    const bytes = readFileSync(join(folder, "manifest.json"));
    expect(openRunFolder(folder, { ...identity }, "elsewhere", false)).toEqual(first);
    expect(readFileSync(join(folder, "manifest.json"))).toEqual(bytes);
  });

  it("refuses another run and says what differs", () => {
    openRunFolder(folder, identity, "tiny", false);
    const other = { ...identity, seed: 2, lengths: [256], model: { name: "tiny", sha256: "f".repeat(64) } };
    expect(() => openRunFolder(folder, other, "tiny", false)).toThrow(
      /holds another run: model is .*aaa.* there and .*fff.* here; lengths is \[256,512\] there and \[256\] here; seed is 1 there and 2 here\. Give another --out, or --overwrite/,
    );
    expect(openRunFolder(folder, other, "tiny", true).run.seed).toBe(2);
  });

  it("refuses samples without a manifest, and a manifest that is none", () => {
    writeFileSync(join(folder, "samples.jsonl"), "");
    expect(() => openRunFolder(folder, identity, "tiny", false)).toThrow(/has no manifest beside it/);
    writeFileSync(join(folder, "manifest.json"), "{");
    expect(() => openRunFolder(folder, identity, "tiny", false)).toThrow(/cannot be read as JSON/);
    writeFileSync(join(folder, "manifest.json"), '{"v":2}');
    expect(() => openRunFolder(folder, identity, "tiny", false)).toThrow(/is not a manifest of this program/);
  });
});

// Linux has a file that is always full.
describe.skipIf(!existsSync("/dev/full"))("a full disk", () => {
  it("is an error that says what is kept", () => {
    const file = new SamplesFile(join(folder, "samples.jsonl"));
    symlinkSync("/dev/full", file.path); // after it was read, which would never end
    expect(() => file.append(record({ trial: 0 }))).toThrow(
      /samples\.jsonl cannot be written \(ENOSPC.*\)\. Make room .* what was measured before is kept\.$/,
    );
    expect(file.records.size).toBe(0);
    file.close();
  });

  it("leaves the last report as it was, and nothing half written", () => {
    const path = join(folder, "summary.json");
    writeWhole(path, "before");
    symlinkSync("/dev/full", `${path}.part`);
    expect(() => writeWhole(path, "after")).toThrow(/summary\.json cannot be written/);
    expect(readFileSync(path, "utf8")).toBe("before");
    expect(readdirSync(folder)).toEqual(["summary.json"]);
  });
});
