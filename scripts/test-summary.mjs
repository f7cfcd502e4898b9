// The end of .ci/run, from the result that vitest wrote: what became of each tier of the WebGPU tests, so that a machine
// without an adapter does not look like one where they passed, then the last line, "N passed, N failed".
import { existsSync, readFileSync } from "node:fs";

const [path] = process.argv.slice(2);
let result;
try {
  result = JSON.parse(readFileSync(path, "utf8"));
} catch {
  process.stderr.write("vitest wrote no result: the tests did not run to their end.\n");
  process.exit(1);
}

/** Adapters that the tests opened, as tests/webgpu/device.ts notes them: "software\tllvmpipe (LLVM 19.1.7, 256 bits)". */
const adapters = existsSync(`${path}.adapters`) ? readFileSync(`${path}.adapters`, "utf8").split("\n") : [];

function adapterOf(kind) {
  return adapters.find((line) => line.startsWith(`${kind}\t`))?.slice(kind.length + 1);
}

/** Tests of indexes of keys need hnswlib-node, which is compiled where there is a compiler. */
const INDEXES = /\/(hnsw|key-index)\.test\.ts$/;

/** Tests that need an adapter say by `skipIf` what becomes of them without one; the others of that folder need none. */
function tierOf(file) {
  if (/\/tests\/(.*\/)?page/.test(file)) return "page";
  if (!file.includes("/tests/webgpu/")) return null;
  return readFileSync(file, "utf8").includes("skipIf(") ? "adapter" : "mocked device";
}

const indexes = newTier();
const tiers = { "mocked device": newTier(), adapter: newTier(), page: newTier() };
function newTier() {
  return { passed: 0, failed: 0, skipped: 0 };
}

/** A file that could not be loaded, or whose set-up failed, has no failed tests to count, so it counts itself. */
function isFailedItself({ status, assertionResults }) {
  return status === "failed" && assertionResults.every((test) => test.status !== "failed");
}

for (const file of result.testResults) {
  const { name, assertionResults } = file;
  if (INDEXES.test(name.replaceAll("\\", "/")))
    for (const { status } of assertionResults)
      indexes[status === "passed" || status === "failed" ? status : "skipped"]++;
  const tier = tierOf(name.replaceAll("\\", "/"));
  if (!tier) continue;
  if (isFailedItself(file)) tiers[tier].failed++;
  for (const { status } of assertionResults) {
    if (status === "failed") tiers[tier].failed++;
    else if (status !== "passed") tiers[tier].skipped++;
    // In files of both kinds: what passes without an adapter needed none.
    else tiers[tier === "adapter" && adapters.length === 0 ? "mocked device" : tier].passed++;
  }
}

function describe(name, { passed, failed, skipped }, note) {
  const counts = [`${passed} passed`, `${failed} failed`, `${skipped} skipped`];
  const all = passed + failed === 0;
  process.stdout.write(`WebGPU, ${name}: ${all ? `skipped (${note ?? `${skipped} tests`})` : counts.join(", ")}\n`);
}

const [software, hardware] = ["software", "hardware"].map(adapterOf);
const none = newTier();
describe("mocked device", tiers["mocked device"], "no tests ran");
describe(
  `software adapter${software ? ` ${software}` : ""}`,
  hardware ? none : tiers.adapter,
  hardware ? "the adapter is a GPU" : `no adapter here, ${tiers.adapter.skipped} tests`,
);
describe(
  `real GPU${hardware ? ` ${hardware}` : ""}`,
  hardware ? tiers.adapter : none,
  "none here; LONGCTX_GPU=1 insists on one",
);
describe("page", tiers.page, tiers.page.skipped > 0 ? `${tiers.page.skipped} tests, no browser` : "no tests ran");

if (indexes.skipped > 0)
  process.stdout.write(`Indexes of keys: ${indexes.skipped} tests skipped, hnswlib-node was not compiled here\n`);

const failed = result.numFailedTests + result.testResults.filter(isFailedItself).length;
process.stdout.write(`${result.numPassedTests} passed, ${failed} failed\n`);
