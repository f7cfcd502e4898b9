import { fileURLToPath } from "node:url";

/** The folder of the embedded model, in Hugging Face layout: 0.89M parameters, trained at 256 tokens on a small world. */
export const TINY_MODEL = fileURLToPath(new URL("../model/", import.meta.url));
