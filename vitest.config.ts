import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["packages/*/tests/**/*.test.ts", "apps/*/tests/**/*.test.ts", "tests/**/*.test.ts"],
    testTimeout: 60_000,
    // onnxruntime brings its own threads; more workers than cores only make it slower.
    maxWorkers: 2,
    pool: "forks",
  },
});
