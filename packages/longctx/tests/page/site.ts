import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build, createLogger, preview } from "vite";
import { goldenFolder } from "../definitions/judge.ts";

export interface Site {
  /** With a slash behind. */
  readonly origin: string;
  /** What the bundler had to say. */
  readonly warnings: readonly string[];
  /** Every script of the page. */
  readonly code: string;
  close(): Promise<void>;
}

/** The page, built by vite as it comes, with golden/llama beside it; served on this machine. */
export async function serveSite(): Promise<Site> {
  const outDir = mkdtempSync(join(tmpdir(), "longctx-page-"));
  const root = join(import.meta.dirname, "site");
  const warnings: string[] = [];
  const customLogger = createLogger("silent");
  customLogger.warn = (message) => void warnings.push(message);
  customLogger.warnOnce = customLogger.warn;
  const shared = { root, configFile: false, customLogger, logLevel: "warn" } as const;
  // On a slow machine rolldown also warns of its own slowness.
  const checks = { bundlerTimings: false };
  await build({ ...shared, build: { outDir, emptyOutDir: true, rolldownOptions: { checks } } });
  cpSync(goldenFolder("llama"), join(outDir, "llama"), { recursive: true });
  const server = await preview({ ...shared, build: { outDir }, preview: { host: "127.0.0.1", port: 0 } });
  const assets = join(outDir, "assets");
  return {
    origin: server.resolvedUrls!.local[0],
    warnings,
    code: readdirSync(assets)
      .map((name) => readFileSync(join(assets, name), "utf8"))
      .join("\n"),
    async close() {
      await server.close();
      rmSync(outDir, { recursive: true });
    },
  };
}
