import { renameSync, rmSync, writeFileSync } from "node:fs";
import { LongctxError } from "longctx";

/** @throws LongctxError "file" in place of what the system says, for instance of a full disk */
export function writing(path: string, write: () => void): void {
  try {
    write();
  } catch (cause) {
    throw new LongctxError(
      "file",
      `${path} cannot be written (${(cause as Error).message}). Make room or mend the folder, and run the same command again: what was measured before is kept.`,
      { cause },
    );
  }
}

/** Written beside and renamed, so a reader never sees half of it. */
export function writeWhole(path: string, content: string): void {
  const part = `${path}.part`;
  writing(path, () => {
    try {
      writeFileSync(part, content);
      renameSync(part, path);
    } catch (error) {
      rmSync(part, { force: true });
      throw error;
    }
  });
}
