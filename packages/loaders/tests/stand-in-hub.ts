import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface StandInFile {
  readonly content: Buffer;
  /** Given out as the LFS hash, when given. */
  readonly sha256?: string;
  /** The connection is cut after this many bytes of the first answers, as many as there are numbers. */
  readonly cuts?: number[];
  /** Without range requests. */
  readonly noRanges?: boolean;
  /** In the listing, instead of the true size. */
  readonly listedSize?: number;
}

/** An HTTP server on 127.0.0.1 with the two answers of the Hugging Face Hub that longctx asks for: listings and files. */
export class StandInHub {
  readonly files = new Map<string, StandInFile>();
  /** Paths asked for, with the range if there was one. */
  readonly requests: string[] = [];
  readonly #server = createServer((request, response) => this.#answer(request, response));

  async start(): Promise<this> {
    await new Promise<void>((done) => this.#server.listen(0, "127.0.0.1", done));
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((done) => this.#server.close(done));
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent(new URL(request.url!, this.url).pathname);
    this.requests.push(request.headers.range ? `${path} ${request.headers.range}` : path);
    const tree = /^\/api\/models\/org\/name\/tree\/main(?:\/(.+))?$/.exec(path);
    if (tree) return this.#list(tree[1], response);
    const file = this.files.get(/^\/org\/name\/resolve\/main\/(.+)$/.exec(path)?.[1] ?? "");
    if (!file) return void response.writeHead(404).end("Not found");
    this.#send(file, Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0), response);
  }

  #list(folder: string | undefined, response: ServerResponse): void {
    const inFolder = [...this.files].filter(([path]) => path.split("/").slice(0, -1).join("/") === (folder ?? ""));
    const entries = inFolder.map(([path, { content, sha256, listedSize }]) => {
      const size = listedSize ?? content.length;
      return {
        type: "file",
        path,
        size,
        oid: "0",
        ...(sha256 ? { lfs: { oid: sha256, size, pointerSize: 130 } } : {}),
      };
    });
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(entries));
  }

  #send(file: StandInFile, asked: number, response: ServerResponse): void {
    const start = file.noRanges ? 0 : asked;
    const rest = file.content.subarray(start);
    const range =
      start > 0 ? { "content-range": `bytes ${start}-${file.content.length - 1}/${file.content.length}` } : {};
    response.writeHead(start > 0 ? 206 : 200, { "content-length": rest.length, ...range });
    const cut = file.cuts?.shift();
    if (cut === undefined) response.end(rest);
    else response.write(rest.subarray(0, cut), () => setTimeout(() => response.destroy(), 20));
  }
}
