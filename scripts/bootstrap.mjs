#!/usr/bin/env node
// npm start, npm test, npm run longctx, npm run needle: works in a fresh clone with nothing but Node and npm.
// Plain JavaScript without dependencies, because it runs before there are any.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NODE = [20, 19];
const PNPM = 12;
const PNPM_FOLDER = join(ROOT, "node_modules/.longctx-pnpm");
const PROGRAMS = {
  start: { main: "apps/needle/src/main.ts", first: ["start"] },
  needle: { main: "apps/needle/src/main.ts", first: [] },
  longctx: { main: "apps/cli/src/main.ts", first: [] },
};

/** One line and exit code 1, as every command here fails. */
function fail(message) {
  process.stderr.write(`longctx: ${message}\n`);
  process.exit(1);
}

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > NODE[0] || (major === NODE[0] && minor >= NODE[1])) return;
  fail(`Node ${process.versions.node} is too old; install Node ${NODE.join(".")} or newer (https://nodejs.org).`);
}

/** pnpm keeps a copy of the lock file it installed from, so equal files mean there is nothing to do. */
function isInstalled() {
  const installed = join(ROOT, "node_modules/.pnpm/lock.yaml");
  if (!existsSync(installed) || !readFileSync(installed).equals(readFileSync(join(ROOT, "pnpm-lock.yaml"))))
    return false;
  const folders = ["packages", "apps"].flatMap((parent) =>
    readdirSync(join(ROOT, parent)).map((name) => join(ROOT, parent, name)),
  );
  return folders.every((folder) => {
    const manifest = join(folder, "package.json");
    if (!existsSync(manifest)) return true;
    const { dependencies = {}, devDependencies = {} } = JSON.parse(readFileSync(manifest, "utf8"));
    return [dependencies, devDependencies].every((names) =>
      Object.keys(names).every((name) => existsSync(join(folder, "node_modules", name))),
    );
  });
}

function hasPnpm() {
  const { status, stdout } = spawnSync("pnpm --version", { cwd: ROOT, shell: true, encoding: "utf8" });
  if (status === 0 && Number(stdout.split(".")[0]) >= PNPM) return true;
  // npx asks the registry which version is the newest each time; the folder it keeps pnpm in needs no network.
  const folder = existsSync(PNPM_FOLDER) ? readFileSync(PNPM_FOLDER, "utf8") : "";
  if (!existsSync(join(folder, "pnpm")) || process.env.PATH.split(delimiter).includes(folder)) return false;
  process.env.PATH = `${folder}${delimiter}${process.env.PATH}`;
  return hasPnpm();
}

/** Runs this file again where pnpm is on the PATH. */
function againWithPnpm(args) {
  if (process.env.LONGCTX_PNPM) {
    fail(`pnpm ${PNPM} did not start through npx; install it with "npm install --global pnpm@${PNPM}".`);
  }
  const quoted = [process.execPath, fileURLToPath(import.meta.url), ...args]
    .map((text) => JSON.stringify(text))
    .join(" ");
  const env = {
    ...process.env,
    LONGCTX_PNPM: "1",
    npm_config_loglevel: "error",
    npm_config_update_notifier: "false",
  };
  const command = `npx --yes --package pnpm@${PNPM} -- ${quoted}`;
  const { status, signal } = spawnSync(command, { cwd: ROOT, shell: true, stdio: "inherit", env });
  return signal ? 130 : (status ?? 1);
}

function rememberPnpm() {
  if (!process.env.LONGCTX_PNPM) return;
  const folder = process.env.PATH.split(delimiter).find((entry) => existsSync(join(entry, "pnpm")));
  if (folder) writeFileSync(PNPM_FOLDER, folder);
}

/** Native packages are compiled against the headers beside this Node, if it has any, so that nothing is downloaded. */
function headersOfNode() {
  const prefix = dirname(dirname(process.execPath));
  return existsSync(join(prefix, "include/node/node_api.h")) ? { npm_config_nodedir: prefix } : {};
}

/** @returns an exit code */
function install() {
  if (isInstalled()) return 0;
  if (!hasPnpm()) return againWithPnpm(["install"]);
  process.stderr.write("Installing packages (only when they change) ...\n");
  const begin = performance.now();
  const { status, stdout } = spawnSync("pnpm install --frozen-lockfile --reporter=append-only 2>&1", {
    cwd: ROOT,
    shell: true,
    encoding: "utf8",
    env: { ...headersOfNode(), ...process.env, CI: "true" }, // no questions
  });
  if (status !== 0) {
    process.stderr.write(`${stdout}\nThe packages could not be installed; see above.\n`);
    return status ?? 1;
  }
  rememberPnpm();
  process.stderr.write(`Installed in ${((performance.now() - begin) / 1000).toFixed(0)} s.\n`);
  return 0;
}

/** In this process, so that terminal, pipes, signals and the exit code are the program's own. */
async function start({ main, first }, args) {
  const code = install();
  if (code !== 0) process.exit(code);
  // npm and pnpm run scripts in the repository; the program's paths are relative to where the user is.
  const { INIT_CWD } = process.env;
  if (INIT_CWD && existsSync(INIT_CWD)) process.chdir(INIT_CWD);
  const { register } = await import("tsx/esm/api");
  register({ tsconfig: join(ROOT, "tsconfig.base.json") });
  const path = join(ROOT, main);
  process.argv = [process.execPath, path, ...first, ...args];
  await import(pathToFileURL(path).href);
}

async function test(args) {
  const code = install();
  if (code !== 0) process.exit(code);
  // turbo and publint call pnpm.
  if (!hasPnpm()) process.exit(againWithPnpm(["test", ...args]));
  rememberPnpm();
  const { check } = await import("./check.mjs");
  process.exit(check(ROOT, args));
}

checkNode();
const [command = "", ...rest] = process.argv.slice(2);
const args = rest[0] === "--" ? rest.slice(1) : rest; // pnpm passes it on
if (command === "install") process.exit(install());
else if (command === "test") await test(args);
else if (Object.hasOwn(PROGRAMS, command)) await start(PROGRAMS[command], args);
else fail(`There is no command "${command}"; there is ${[...Object.keys(PROGRAMS), "test", "install"].join(", ")}.`);
