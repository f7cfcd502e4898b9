export { createReference } from "./decoder.ts";
