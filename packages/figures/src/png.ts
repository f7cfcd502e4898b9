import { crc32, deflateSync } from "node:zlib";

/**
 * A small picture as a data URI: `colours` is [height, width], null where nothing is drawn. An indexed PNG (W3C PNG
 * specification, third edition) of at most 255 colours, kept uncompressed so that every zlib gives the same bytes.
 */
export function pngDataUri(
  width: number,
  height: number,
  colours: readonly (readonly [number, number, number] | null)[],
): string {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 3, 0, 0, 0], 8); // 8 bits an index, no interlacing
  const palette = new Map<string, number>();
  const entries: number[] = [0, 0, 0]; // index 0 is transparent
  const rows = Buffer.alloc(height * (width + 1)); // each begins with its filter, none
  colours.forEach((colour, at) => {
    if (!colour) return;
    const rounded = colour.map(Math.round);
    const key = rounded.join(",");
    let index = palette.get(key);
    if (index === undefined) {
      index = palette.size + 1;
      palette.set(key, index);
      entries.push(...rounded);
    }
    rows[Math.floor(at / width) * (width + 1) + 1 + (at % width)] = index;
  });
  const bytes = Buffer.concat([
    Buffer.from("89504e470d0a1a0a", "hex"),
    chunk("IHDR", header),
    chunk("PLTE", Buffer.from(entries)),
    chunk("tRNS", Buffer.from([0])),
    chunk("IDAT", deflateSync(rows, { level: 0 })),
    chunk("IEND", Buffer.alloc(0)),
  ]);
  return `data:image/png;base64,${bytes.toString("base64")}`;
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, "latin1"), data]);
  const frame = Buffer.alloc(8);
  frame.writeUInt32BE(data.length, 0);
  frame.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
}
