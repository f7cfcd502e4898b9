// gpu-source-node.ts, or gpu-source-browser.ts in a page: see `imports` in package.json.
import { NO_ADAPTER } from "#gpu-source";
import { LongctxError } from "../../common/errors.ts";

export { gpuSource } from "#gpu-source";

/** An adapter, and why it was taken. */
export interface ChosenAdapter {
  readonly adapter: GPUAdapter;
  /** As people know it: "NVIDIA GeForce RTX 4090", "llvmpipe (LLVM 19.1.7, 256 bits)". */
  readonly name: string;
  /** All that it says of itself, by which what was measured on it is kept. */
  readonly id: string;
  /** It computes on a processor: correct, but no measure of speed. */
  readonly software: boolean;
}

/** Renderers on processors, by the names they have, where the adapter does not say so itself. */
const SOFTWARE =
  /llvmpipe|lavapipe|softpipe|swiftshader|\bsoftware (adapter|render|rasteri[sz])|microsoft basic render|\bwarp\b/i;

/**
 * The adapter that the runtime prefers. @throws LongctxError "device" when there is none, or only one that computes on a
 * processor where `hardwareOnly` asks for more
 */
export async function chooseAdapter(gpu: GPU, hardwareOnly: boolean): Promise<ChosenAdapter> {
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new LongctxError("device", NO_ADAPTER);
  const { description, device, vendor, architecture } = adapter.info;
  const name =
    nameOf(device?.replace(/-+$/, ""), description) || nameOf(vendor, architecture) || "an adapter without a name";
  const software =
    isFallback(adapter) || [description, device, vendor, architecture].some((text) => SOFTWARE.test(text ?? ""));
  if (software && hardwareOnly)
    throw new LongctxError(
      "device",
      `The only WebGPU adapter is ${name}, which computes on the processor. Ask for --device webgpu to use it all the same, or use --device cpu, which is faster.`,
    );
  const id = [vendor, architecture, device, description].filter(Boolean).join(" / ") || name;
  return { adapter, name, id, software };
}

/** Older browsers say it of the adapter, newer ones of its description. */
function isFallback(adapter: GPUAdapter): boolean {
  const says = [adapter, adapter.info] as readonly { readonly isFallbackAdapter?: boolean }[];
  return says.some(({ isFallbackAdapter }) => isFallbackAdapter === true);
}

/** Both where one does not say the other: what drivers on Vulkan describe is their version, and not the device. */
function nameOf(what: string | undefined, more: string | undefined): string {
  if (!what || !more || more.includes(what)) return more || what || "";
  return what.includes(more) ? what : `${what}: ${more}`;
}
