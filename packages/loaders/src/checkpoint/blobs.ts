import { LongctxError } from "@longctx/core";
import { CheckedSource, type ByteSource } from "../common/byte-source.ts";
import { openFolder, openGgufFile, type Checkpoint, type CheckpointOptions } from "./checkpoint.ts";
import type { DownloadOptions } from "../download/options.ts";
import type { Folder } from "../common/folder.ts";

/** Bytes of one read: many arrays of 32 MiB fit into a page's heap more easily than one array of a file's size. */
const PIECE = 2 ** 25;

/** `onProgress` hears how much of a file was read into memory; `signal` ends the reading. */
type ReadingOptions = Pick<DownloadOptions, "onProgress" | "signal">;

/**
 * Opens a model that a page holds as Blobs: one .gguf file, or the files of a folder in Hugging Face's layout
 * (config.json, safetensors and, where there is one, the tokenizer), told apart by their names. A worker reads each
 * tensor from its file when a backend asks for it. The page's main thread cannot read synchronously, so `openFiles`
 * reads the weights into memory there, and `close` frees them.
 * @throws LongctxError "file" for missing or damaged files, "config" for a model that longctx does not have, "aborted"
 * on the signal
 */
export async function openFiles(
  files: Blob | readonly File[],
  options: CheckpointOptions & ReadingOptions = {},
): Promise<Checkpoint> {
  const list = files instanceof Blob ? [files] : [...files];
  if (list.length === 1 && !nameOf(list[0]).endsWith(".safetensors"))
    return openGgufFile(await openBlob(list[0], nameOf(list[0]), options), options);
  return openFolder(new FileList(list, options), options);
}

class FileList implements Folder {
  readonly path: string;
  readonly names: readonly string[];
  readonly #files: ReadonlyMap<string, Blob>;
  readonly #options: ReadingOptions;

  constructor(files: readonly Blob[], options: ReadingOptions) {
    this.#options = options;
    this.#files = new Map(files.map((file) => [nameOf(file), file]));
    this.names = [...this.#files.keys()];
    this.path = `The list of files (${this.names.slice(0, 5).join(", ")}${this.names.length > 5 ? ", ..." : ""})`;
  }

  placeOf(name: string): string {
    return name;
  }

  async open(name: string): Promise<ByteSource> {
    const file = this.#files.get(name);
    if (!file) throw new LongctxError("file", `${name} is not among the files given.`);
    return openBlob(file, name, this.#options);
  }
}

function nameOf(blob: Blob): string {
  return "name" in blob && typeof blob.name === "string" ? blob.name : "The file";
}

async function openBlob(blob: Blob, name: string, { onProgress, signal }: ReadingOptions): Promise<ByteSource> {
  const { FileReaderSync } = globalThis as { FileReaderSync?: new () => BlobReader };
  if (FileReaderSync) return new BlobInWorker(blob, name, new FileReaderSync());
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  const checkSignal = () => {
    if (signal?.aborted) throw new LongctxError("aborted", `The reading of ${name} was stopped.`);
  };
  checkSignal();
  for (let from = 0; from < blob.size; from += PIECE) {
    pieces.push(await pieceOf(blob, from, name));
    onProgress?.({ file: name, received: Math.min(from + PIECE, blob.size), total: blob.size });
    checkSignal();
  }
  return new BlobInMemory(pieces, blob.size, name);
}

async function pieceOf(blob: Blob, from: number, name: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await blob.slice(from, from + PIECE).arrayBuffer());
  } catch (cause) {
    throw unreadable(name, cause);
  }
}

/** The part of FileReaderSync that BlobInWorker calls; browsers have a FileReaderSync in workers only. */
interface BlobReader {
  readAsArrayBuffer(blob: Blob): ArrayBuffer;
}

class BlobInWorker extends CheckedSource {
  readonly #blob: Blob;
  readonly #reader: BlobReader;

  constructor(blob: Blob, path: string, reader: BlobReader) {
    super(path, blob.size);
    this.#blob = blob;
    this.#reader = reader;
  }

  protected fill(target: Uint8Array, offset: number): void {
    try {
      for (let done = 0; done < target.length; done += PIECE) {
        const size = Math.min(PIECE, target.length - done);
        const from = offset + done;
        target.set(new Uint8Array(this.#reader.readAsArrayBuffer(this.#blob.slice(from, from + size))), done);
      }
    } catch (cause) {
      throw unreadable(this.path, cause);
    }
  }

  protected release(): void {}
}

class BlobInMemory extends CheckedSource {
  readonly #pieces: Uint8Array<ArrayBuffer>[];

  constructor(pieces: Uint8Array<ArrayBuffer>[], size: number, path: string) {
    super(path, size);
    this.#pieces = pieces;
  }

  protected fill(target: Uint8Array, offset: number): void {
    for (let done = 0; done < target.length;) {
      const from = (offset + done) % PIECE;
      const piece = this.#pieces[Math.floor((offset + done) / PIECE)];
      const part = piece.subarray(from, from + target.length - done);
      target.set(part, done);
      done += part.length;
    }
  }

  protected release(): void {
    this.#pieces.length = 0;
  }
}

/**
 * The error for a blob that the browser refuses to read, as it does when the file changed on disk after the user chose
 * it.
 */
function unreadable(name: string, cause: unknown): LongctxError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new LongctxError("file", `${name} cannot be read (${reason.replace(/\.$/, "")}). Give it again.`, { cause });
}
