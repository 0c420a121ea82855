/** A log file that is rotated by size or time. The newest of the old files is `tasks.log.1.gz`. */
import { once } from 'node:events'
import { basename, dirname, resolve } from 'node:path'
import { createStream, type RotatingFileStream } from 'rotating-file-stream'

export interface LogRotation {
  readonly sizeBytes?: number | undefined
  /** `1d`, `6h`, `30m`. */
  readonly every?: string | undefined
  /** How many old files are kept. */
  readonly keep: number
}

/** Rejects if the file cannot be written. */
export async function openRotatingFile(
  path: string,
  { sizeBytes, every, keep }: LogRotation,
): Promise<RotatingFileStream> {
  const name = basename(path)
  const file = createStream((index) => (index ? `${name}.${index}.gz` : name), {
    path: dirname(resolve(path)),
    rotate: keep,
    compress: 'gzip',
    mode: 0o600,
    ...(sizeBytes !== undefined && { size: `${sizeBytes}B` }),
    ...(every !== undefined && { interval: every }),
  })
  await once(file, 'open')
  return file
}
