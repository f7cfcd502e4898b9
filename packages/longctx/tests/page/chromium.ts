import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium, type Browser } from "playwright-core";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** The browser that LONGCTX_CHROMIUM names, else the first of the usual names on PATH; null where there is none. */
export function findChromium(): string | null {
  const named = process.env.LONGCTX_CHROMIUM;
  if (named) {
    if (!isProgram(named))
      throw new Error(`LONGCTX_CHROMIUM names ${named}, which is no program. Correct or unset it.`);
    return named;
  }
  const folders = (process.env.PATH ?? "").split(delimiter);
  return NAMES.flatMap((name) => folders.map((folder) => join(folder, name))).find(isProgram) ?? null;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Without a window, and on SwiftShader, which computes on the processor, unless LONGCTX_GPU=1 asks for the machine's GPU. */
export function launch(executablePath: string): Promise<Browser> {
  const isRoot = process.getuid?.() === 0;
  return chromium.launch({
    executablePath,
    args: [
      "--enable-unsafe-webgpu", // Linux asks for it
      ...(process.env.LONGCTX_GPU === "1" ? ["--enable-features=Vulkan"] : ["--use-webgpu-adapter=swiftshader"]),
      ...(isRoot ? ["--no-sandbox"] : []), // Chromium's sandbox refuses root
    ],
  });
}
