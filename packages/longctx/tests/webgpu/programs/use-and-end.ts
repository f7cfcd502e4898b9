/** Uses a GPU as README shows, and calls nothing to make the process end. */
import { fileURLToPath } from "node:url";
import { load } from "../../../src/index.ts";

const model = await load(fileURLToPath(new URL("../../golden/llama", import.meta.url)), { device: "webgpu" });
const session = model.session({ capacity: 64 });
const generation = session.generate({ prompt: [1, 2, 3, 4, 5], maxNew: 3, stopTokens: [] });
await generation.complete();
process.stdout.write(`${generation.ids.length} tokens on ${model.backend.device}\n`);
if (process.env.LEAVE_OPEN !== "1") await model.dispose();
