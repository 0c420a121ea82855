/** What tells one state of a file from another without reading it. */
import type { Stats } from 'node:fs'

/** Two of one size, in one file, within a tick of the file system's clock (some ms) look alike. */
export function fileFingerprint({ mtimeMs, size, ino }: Stats): string {
  return `${mtimeMs}/${size}/${ino}`
}
