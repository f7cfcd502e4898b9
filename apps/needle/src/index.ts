export * from "./files/manifest.ts";
export * from "./run/options.ts";
export * from "./report/report.ts";
export * from "./run/run.ts";
export * from "./report/summary.ts";
