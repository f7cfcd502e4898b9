import { writeFileSync } from "node:fs";
import { argv } from "node:process";
import { fileURLToPath } from "node:url";
import { createMemoryStream, main } from "assemblyscript/asc";

const FOLDER = fileURLToPath(new URL("src/", import.meta.url));
const OPTIONS = "-O3 --noAssert --runtime stub --enable simd --importMemory --noExportMemory".split(" ");
const PAGES = ["--initialMemory", "1", "--maximumMemory", "65536"];
const THREADS = ["--sharedMemory", "--enable", "threads", "--enable", "bulk-memory"];

/** The text of src/cpu/wasm/kernel-bytes.ts. */
export async function kernelBytes(): Promise<string> {
  const binary = Buffer.from(await compile("kernels")).toString("base64");
  return `// Made from packages/core/kernels by \`pnpm run kernels\`.\nexport const KERNELS =\n  "${binary}";\n`;
}

async function compile(name: string): Promise<Uint8Array> {
  let binary = new Uint8Array();
  const files = ["--baseDir", FOLDER, `${name}.ts`, "--outFile", `${name}.wasm`];
  const stderr = createMemoryStream();
  const { error } = await main([...files, ...OPTIONS, ...PAGES, ...THREADS], {
    stderr,
    writeFile: (_, contents) => {
      if (typeof contents !== "string") binary = Uint8Array.from(contents);
    },
  });
  if (error) throw new Error(`${name}: ${stderr.toString()}`, { cause: error });
  return binary;
}

if (argv[1] === fileURLToPath(import.meta.url))
  writeFileSync(new URL("../src/cpu/wasm/kernel-bytes.ts", import.meta.url), await kernelBytes());
