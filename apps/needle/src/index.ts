export * from "./manifest.ts";
export * from "./options.ts";
export * from "./report.ts";
export * from "./run.ts";
export * from "./summary.ts";
