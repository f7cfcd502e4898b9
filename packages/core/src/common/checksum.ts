/** The CRC-32 table: entry b is the remainder of dividing byte b by the reflected polynomial of IEEE 802.3. */
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? (rest >>> 1) ^ 0xedb88320 : rest >>> 1;
  return rest;
});

/**
 * Returns the CRC-32 checksum of `bytes`, as in zip and png files; longctx has its own because browsers have none. For
 * data in pieces, `before` is the checksum of all pieces before these bytes.
 */
export function crc32(bytes: Uint8Array, before = 0): number {
  let rest = ~before;
  for (let i = 0; i < bytes.length; i++) rest = (rest >>> 8) ^ TABLE[(rest ^ bytes[i]) & 0xff];
  return ~rest >>> 0;
}
