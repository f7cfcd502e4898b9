import { LongctxError } from "@longctx/core";
import type { DownloadOptions } from "./options.ts";
import { oneLine } from "../common/message.ts";

/**
 * Fetches a file into memory; its name is the last part of the URL's path. longctx keeps no copy: a page that is opened
 * again fetches it again, unless the browser cached it.
 * @throws LongctxError "network" when the file cannot be fetched, "aborted" on the signal
 */
export async function fetchFile(
  url: string,
  options: Pick<DownloadOptions, "onProgress" | "signal" | "fetch"> = {},
): Promise<File> {
  const refused = (reason: string, cause?: unknown) =>
    new LongctxError("network", `Cannot fetch ${url}: ${reason}. Is the address right, and may this page read it?`, {
      cause,
    });
  try {
    const name = nameOf(url);
    const response = await (options.fetch ?? fetch)(url, { signal: options.signal });
    if (!response.ok || !response.body) throw refused(`the server answers ${response.status}`);
    const length = response.headers.get("content-length");
    // The content-length of a compressed answer is not the length of the file.
    const total = length === null || response.headers.has("content-encoding") ? null : Number(length);
    let received = 0;
    const counted = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        received += chunk.length;
        options.onProgress?.({ file: name, received, total });
        controller.enqueue(chunk);
      },
    });
    return new File([await new Response(response.body.pipeThrough(counted)).blob()], name);
  } catch (cause) {
    if (options.signal?.aborted) throw new LongctxError("aborted", `The fetching of ${url} was stopped.`, { cause });
    throw cause instanceof LongctxError ? cause : refused(oneLine(cause), cause);
  }
}

/** The last part of a URL's path, percent-decoded where that is possible ("50%.gguf" stays as it is). */
function nameOf(url: string): string {
  const last = new URL(url, "http://page/").pathname.split("/").at(-1)!;
  try {
    return decodeURIComponent(last) || url;
  } catch {
    return last;
  }
}
