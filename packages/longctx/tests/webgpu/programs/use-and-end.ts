/** Uses a GPU as README shows, and calls nothing to make the process end. */
import { load } from "../../../src/index.ts";

const model = await load("tiny", { device: "webgpu" });
const session = model.session({ capacity: 64 });
const generation = session.generate({ prompt: model.tokenizer!.encode("remember : amber walnut ."), maxNew: 3 });
await generation.complete();
process.stdout.write(`${generation.ids.length} tokens on ${model.backend.device}\n`);
if (process.env.LEAVE_OPEN !== "1") await model.dispose();
