export type { Io } from "./io.ts";
export { Progress } from "./progress.ts";
export { run } from "./run.ts";
