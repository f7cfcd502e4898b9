#!/usr/bin/env node
import { text } from "node:stream/consumers";
import { run } from "./run.ts";

const controller = new AbortController();
process.on("SIGINT", () => {
  // The first Ctrl-C lets a command clean up; the second does not wait for it.
  if (controller.signal.aborted) process.exit(130);
  controller.abort();
  if (process.stderr.isTTY) process.stderr.write("\nStopping after this step; Ctrl-C again to stop at once.\n");
});
// `longctx methods | head` closes the pipe early, which is not an error.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

process.exitCode = await run(process.argv.slice(2), {
  out: (output) => void process.stdout.write(output),
  err: (output) => void process.stderr.write(output),
  outIsTerminal: process.stdout.isTTY,
  errIsTerminal: process.stderr.isTTY,
  input: () => text(process.stdin),
  signal: controller.signal,
});
