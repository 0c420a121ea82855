/** Hashes for choosing a target. They are not for secrets. */

/** FNV-1a, 32 bits. */
export function hashText(text: string): number {
  let value = 0x811c9dc5
  for (let index = 0; index < text.length; index++) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193)
  }
  return value >>> 0
}

/** The finalizer of MurmurHash3. Without it, the high bits of FNV-1a of short ids are too similar to rank by. */
export function mixBits(value: number): number {
  let h = value
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}
