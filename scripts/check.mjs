import { spawnSync } from "node:child_process";
import { delimiter, join } from "node:path";

const CHECKS = [
  { name: "types and builds", command: "turbo run typecheck build --continue --output-logs=errors-only --no-color" },
  { name: "lint", command: "oxlint" },
  { name: "format", command: "oxfmt --check" },
  { name: "unused code", command: "knip --no-progress" },
  { name: "rooms and cycles", command: "node scripts/rooms.mjs" },
];

/**
 * What `npm test` does: the static checks, then the unit tests. All of them run, so that one failure does not hide
 * another. Arguments go to vitest (a path or a name); LONGCTX_TEST_REPORT names a file for vitest's result in JSON.
 * @returns an exit code
 */
export function check(root, args) {
  const env = {
    ...process.env,
    PATH: `${join(root, "node_modules/.bin")}${delimiter}${process.env.PATH}`,
    TURBO_TELEMETRY_DISABLED: "1",
  };
  const failed = [];
  for (const { name, command } of CHECKS) {
    const begin = performance.now();
    const { status, stdout } = spawnSync(`${command} 2>&1`, {
      cwd: root,
      shell: true,
      encoding: "utf8",
      env,
      maxBuffer: 2 ** 28,
    });
    const seconds = ((performance.now() - begin) / 1000).toFixed(1);
    if (status !== 0) {
      failed.push(name);
      process.stdout.write(stdout);
    }
    process.stdout.write(`${status === 0 ? "ok    " : "FAILED"} ${name} (${seconds} s)\n`);
  }
  const report = process.env.LONGCTX_TEST_REPORT;
  const reporters = report ? ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`] : [];
  const vitest = spawnSync(
    process.execPath,
    [join(root, "node_modules/vitest/vitest.mjs"), "run", ...reporters, ...args],
    { cwd: root, stdio: "inherit", env },
  );
  if (vitest.status !== 0) failed.push("tests");
  process.stdout.write(failed.length === 0 ? "Everything passed.\n" : `Failed: ${failed.join(", ")}.\n`);
  return failed.length === 0 ? 0 : 1;
}
