import { fetchFile, load, parseMethod } from "longctx";
import { watchThread, type Watched } from "./held-thread.ts";
import { logitsOf } from "./logits.ts";
import type { LogitsRequest, Outcome, TestPage } from "./test-page.ts";

const form = document.querySelector("form")!;
const output = document.querySelector("output")!;

const page: TestPage = {
  async logits({ urls, worker, ...request }) {
    const files = await Promise.all(urls.map((url) => fetchFile(url)));
    const all = await (worker ? inWorker : logitsOf)({ ...request, files });
    return all.map((logits) => [...logits]);
  },
  outcome: new Promise((resolve, reject) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      goOn().then(resolve, reject);
    });
  }),
};
Object.assign(globalThis, { page });

function field(name: string): HTMLInputElement {
  return form.querySelector(`[name=${name}]`)!;
}

async function goOn(): Promise<Outcome> {
  let adapter = "";
  let watch: (() => Watched) | undefined;
  let upload: Watched | undefined;
  const model = await load(field("model").files![0], {
    device: "webgpu",
    onDevice: (choice) => (adapter = choice.adapter ?? ""),
    onWeights: (done, total) => {
      watch ??= watchThread();
      if (done === total) upload ??= watch();
    },
  });
  const session = model.session({ method: parseMethod(field("method").value), capacity: 256 });
  const prompt = model.tokenizer!.encode(field("prompt").value);
  const generation = session.generate({ prompt, maxNew: Number(field("tokens").value) });
  for await (const { text } of generation) output.value += text;
  await model.dispose();
  return { ids: generation.ids, text: output.value, adapter, upload: upload! };
}

function inWorker(request: LogitsRequest): Promise<Float32Array[]> {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
  return new Promise<Float32Array[]>((resolve, reject) => {
    worker.addEventListener("message", ({ data }: MessageEvent<{ logits: Float32Array[] } | { error: string }>) =>
      "logits" in data ? resolve(data.logits) : reject(new Error(data.error)),
    );
    worker.addEventListener("error", ({ message }) => reject(new Error(message)));
    worker.postMessage(request, []);
  }).finally(() => worker.terminate());
}
