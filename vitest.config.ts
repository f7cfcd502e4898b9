import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["{packages,apps}/*/tests/**/*.test.ts", "notebooks/tests/**/*.test.ts", "tests/**/*.test.ts"],
    testTimeout: 60_000,
    // onnxruntime brings its own threads; more workers than cores only make it slower.
    maxWorkers: 2,
    pool: "forks",
  },
});
