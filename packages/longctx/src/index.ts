export * from "@longctx/core";
export * from "@longctx/loaders";
export * from "@longctx/rope";
export * from "@longctx/windows";
export * from "./deviation.ts";
export * from "./device.ts";
export * from "./load.ts";
export * from "./methods.ts";
