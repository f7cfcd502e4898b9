import { writeFileSync } from "node:fs";
import { argv } from "node:process";
import { fileURLToPath } from "node:url";
import { createMemoryStream, main } from "assemblyscript/asc";

const FOLDER = fileURLToPath(new URL("src/", import.meta.url));
const OPTIONS = "-O3 --noAssert --runtime stub --enable simd --importMemory --noExportMemory".split(" ");
const PAGES = ["--initialMemory", "1", "--maximumMemory", "65536"];
const MODULES = { attention: [], dense: ["--sharedMemory", "--enable", "threads"] };

/** The text of src/cpu/kernel-bytes.ts. */
export async function kernelBytes(): Promise<string> {
  const lines = ["// Made from packages/core/kernels by `pnpm run kernels`."];
  for (const [name, options] of Object.entries(MODULES)) {
    const binary = Buffer.from(await compile(name, options)).toString("base64");
    lines.push(`export const ${name.toUpperCase()} =`, `  "${binary}";`);
  }
  return `${lines.join("\n")}\n`;
}

async function compile(name: string, options: readonly string[]): Promise<Uint8Array> {
  let binary = new Uint8Array();
  const files = ["--baseDir", FOLDER, `${name}.ts`, "--outFile", `${name}.wasm`];
  const stderr = createMemoryStream();
  const { error } = await main([...files, ...OPTIONS, ...PAGES, ...options], {
    stderr,
    writeFile: (_, contents) => {
      if (typeof contents !== "string") binary = Uint8Array.from(contents);
    },
  });
  if (error) throw new Error(`${name}: ${stderr.toString()}`, { cause: error });
  return binary;
}

if (argv[1] === fileURLToPath(import.meta.url))
  writeFileSync(new URL("../src/cpu/kernel-bytes.ts", import.meta.url), await kernelBytes());
