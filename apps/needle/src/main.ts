import { LongctxError } from "longctx";
import { needleCommand } from "./command/command.ts";

const program = needleCommand();
try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof LongctxError)) throw error;
  process.stderr.write(`${program.opts<{ debug?: boolean }>().debug ? error.stack : error.message}\n`);
  process.exitCode = 1;
}
