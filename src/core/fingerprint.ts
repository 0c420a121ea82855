/** Finds out whether a file has changed without reading it. */
import type { Stats } from 'node:fs'

/** Two changes within a tick of the file system's clock (some milliseconds) look alike if the size stays the same. */
export function fileFingerprint({ mtimeMs, size, ino }: Stats): string {
  return `${mtimeMs}/${size}/${ino}`
}
