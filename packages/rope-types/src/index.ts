export * from "./dynamic-ntk.ts";
export * from "./interpolation.ts";
export * from "./llama3.ts";
export * from "./longrope.ts";
export * from "./ntk.ts";
export * from "./rope.ts";
export * from "./yarn.ts";
