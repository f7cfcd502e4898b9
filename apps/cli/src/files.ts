import { rmSync } from "node:fs";
import { open as openFile, readFile, rename, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { LongctxError } from "longctx";

/** A text file. @throws LongctxError "file" when it is missing or not UTF-8 */
export async function readText(path: string): Promise<string> {
  const content = await readFile(path).catch((error: NodeJS.ErrnoException) => {
    throw new LongctxError("file", `${path} cannot be read: ${reasonOf(error)}.`, { cause: error });
  });
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(content);
  } catch (error) {
    throw new LongctxError("file", `${path} is not a text in UTF-8; convert it first.`, { cause: error });
  }
}

/** Token ids out of a JSON array. Whether the model has them is for the model to say. */
export async function readIds(path: string): Promise<number[]> {
  const text = await readText(path);
  let ids: unknown;
  try {
    ids = JSON.parse(text);
  } catch (error) {
    throw new LongctxError(
      "file",
      `${path} is not JSON (${(error as Error).message}); it has to be an array of token ids, such as [1, 17, 42].`,
      { cause: error },
    );
  }
  if (!Array.isArray(ids))
    throw new LongctxError("file", `${path} has to be an array of token ids, such as [1, 17, 42].`);
  if (ids.length === 0) throw new LongctxError("file", `${path} holds no token ids; give at least one.`);
  const wrong = ids.findIndex((id) => !Number.isSafeInteger(id) || (id as number) < 0);
  if (wrong >= 0)
    throw new LongctxError(
      "file",
      `${path}: entry ${wrong} is ${shorten(JSON.stringify(ids[wrong]))}, but token ids are whole numbers of at least 0.`,
    );
  return ids as number[];
}

/** The folder of an output file has to be there before an hour of computing goes into it. */
export async function checkOutput(path: string): Promise<void> {
  const folder = dirname(path);
  if (!(await isFolder(folder)))
    throw new LongctxError("file", `The folder ${folder} of --out ${path} does not exist; make it first.`);
  if (await isFolder(path)) throw new LongctxError("file", `--out ${path} is a folder; give the name of a file.`);
}

/** The folder for several output files. @throws LongctxError "file" when it is not there */
export async function checkFolder(path: string): Promise<void> {
  if (!(await isFolder(path)))
    throw new LongctxError("file", `--out ${path} is not a folder; make it first, or give another.`);
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isDirectory() ?? false;
}

/** Writes a file piece by piece under another name and gives it its own at the end: it is there whole or not at all. */
export async function writeAtomically(
  path: string,
  write: (append: (text: string) => Promise<void>) => Promise<void>,
): Promise<void> {
  const partial = join(dirname(path), `.${basename(path)}.${process.pid}.partial`);
  const remove = () => rmSync(partial, { force: true });
  process.once("exit", remove); // a second Ctrl-C does not wait
  try {
    const file = await openFile(partial, "w");
    try {
      await write((text) => file.appendFile(text));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(partial, path);
  } catch (cause) {
    if (!(cause instanceof Error && "syscall" in cause)) throw cause;
    throw new LongctxError("file", `--out ${path} cannot be written: ${cause.message}. Make room, or give another.`, {
      cause,
    });
  } finally {
    remove();
    process.off("exit", remove);
  }
}

function reasonOf(error: NodeJS.ErrnoException): string {
  if (error.code === "ENOENT") return "it does not exist";
  return error.code === "EISDIR" ? "it is a folder" : error.message;
}

function shorten(text: string): string {
  return text.length > 40 ? `${text.slice(0, 37)}...` : text;
}
