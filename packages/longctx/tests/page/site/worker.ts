import { logitsOf } from "./logits.ts";
import type { LogitsRequest } from "./test-page.ts";

onmessage = async ({ data }: MessageEvent<LogitsRequest>) => {
  try {
    postMessage({ logits: await logitsOf(data) });
  } catch (error) {
    postMessage({ error: String(error) });
  }
};
