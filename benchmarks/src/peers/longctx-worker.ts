import { createRequire } from "node:module";
import { load, type Precision, type Session } from "longctx";
import type { Engine } from "./protocol.ts";
import { secondsSince, serve } from "./serve.ts";

await serve(async (path): Promise<Engine> => {
  const model = await load(path, { device: "cpu", precision: process.argv[3] as Precision });
  let session: Session | null = null;
  return {
    versions: { "onnxruntime-node": onnxruntimeVersion() },
    prefill: async (ids, room) => {
      session?.dispose();
      session = model.session({ capacity: ids.length + room + 1 });
      const begin = performance.now();
      const [token] = await decode(session, 1, ids);
      return { seconds: secondsSince(begin), token };
    },
    decode: async (count) => {
      const last = session!;
      // The token of the prefill comes first again; it costs no forward pass and is not counted.
      let begin = NaN;
      const tokens = await decode(last, count + 1, undefined, () => (begin ||= performance.now()));
      return { seconds: secondsSince(begin), tokens: tokens.slice(1) };
    },
  };
});

async function decode(
  session: Session,
  maxNew: number,
  prompt?: readonly number[],
  onToken?: () => void,
): Promise<number[]> {
  const generation = session.generate({ prompt, maxNew, stopTokens: [] });
  for await (const { id } of generation) {
    void id;
    onToken?.();
  }
  return generation.ids;
}

function onnxruntimeVersion(): string {
  const fromCore = createRequire(new URL("../../../packages/core/package.json", import.meta.url));
  return (fromCore("onnxruntime-node/package.json") as { version: string }).version;
}
