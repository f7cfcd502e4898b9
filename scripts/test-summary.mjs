// The last line of .ci/run: "N passed, N failed", from the result that vitest wrote.
import { readFileSync } from "node:fs";

const [path] = process.argv.slice(2);
let result;
try {
  result = JSON.parse(readFileSync(path, "utf8"));
} catch {
  process.stderr.write("vitest wrote no result: the tests did not run to their end.\n");
  process.exit(1);
}
// A file that could not even be loaded has no tests to count, so it counts itself.
const unloaded = result.testResults.filter(
  (file) => file.status === "failed" && file.assertionResults.length === 0,
).length;
process.stdout.write(`${result.numPassedTests} passed, ${result.numFailedTests + unloaded} failed\n`);
