/** Writes safetensors files for tests. `header` replaces what the tensors would say. */
export interface BuiltSafetensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

export function buildSafetensors(
  tensors: Readonly<Record<string, BuiltSafetensor>>,
  header?: (own: Record<string, unknown>) => unknown,
  headerLength?: bigint,
): Buffer {
  let end = 0;
  const own: Record<string, unknown> = { __metadata__: { format: "pt" } };
  for (const [name, { dtype, shape, bytes }] of Object.entries(tensors)) {
    own[name] = { dtype, shape, data_offsets: [end, (end += bytes.length)] };
  }
  const written = header ? header(own) : own;
  const text = Buffer.from(typeof written === "string" ? written : JSON.stringify(written));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(headerLength ?? BigInt(text.length));
  return Buffer.concat([prefix, text, ...Object.values(tensors).map(({ bytes }) => bytes)]);
}
