import {
  getLlama,
  getModuleVersion,
  LlamaLogLevel,
  type LlamaContext,
  type LlamaContextSequence,
  type Token,
} from "node-llama-cpp";
import type { Engine, Settings } from "./protocol.ts";
import { secondsSince, serve } from "./serve.ts";

await serve(async (modelPath): Promise<Engine> => {
  const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
  const model = await llama.loadModel({ modelPath });
  let context: LlamaContext | null = null;
  let sequence: LlamaContextSequence | null = null;
  let made = "";
  let tokens: AsyncGenerator<Token, void> | null = null;

  const contextFor = async (contextSize: number, settings: Settings): Promise<LlamaContextSequence> => {
    const wanted = JSON.stringify([contextSize, settings]);
    if (wanted !== made) {
      await context?.dispose();
      context = await model.createContext({ contextSize, ...settings });
      sequence = context.getSequence();
      made = wanted;
    }
    await sequence!.clearHistory();
    return sequence!;
  };

  const next = async (): Promise<number> => {
    const { value, done } = await tokens!.next();
    if (done || value === undefined) throw new Error("llama.cpp stopped before it was asked to");
    return value;
  };

  return {
    versions: { "node-llama-cpp": await getModuleVersion(), "llama.cpp": llama.llamaCppRelease.release },
    prefill: async (ids, room, settings) => {
      await tokens?.return();
      const ready = await contextFor(ids.length + room + 1, settings);
      tokens = ready.evaluate(ids as unknown as Token[], { temperature: 0, yieldEogToken: true });
      const begin = performance.now();
      const token = await next();
      return { seconds: secondsSince(begin), token };
    },
    decode: async (count) => {
      const decoded: number[] = [];
      const begin = performance.now();
      while (decoded.length < count) decoded.push(await next());
      return { seconds: secondsSince(begin), tokens: decoded };
    },
  };
});
