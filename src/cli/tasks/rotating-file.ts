/** A log file that is put aside by size or by time: `tasks.log.1.gz` is the newest of the old ones. */
import { once } from 'node:events'
import { basename, dirname, resolve } from 'node:path'
import { createStream, type RotatingFileStream } from 'rotating-file-stream'

export interface LogRotation {
  /** Bytes. */
  readonly sizeBytes?: number | undefined
  /** `1d`, `6h`, `30m`. */
  readonly every?: string | undefined
  /** Old files. */
  readonly keep: number
}

/** Rejects where the file cannot be written. */
export async function openRotatingFile(
  path: string,
  { sizeBytes: size, every, keep }: LogRotation,
): Promise<RotatingFileStream> {
  const name = basename(path)
  const file = createStream((index) => (index ? `${name}.${index}.gz` : name), {
    path: dirname(resolve(path)),
    rotate: keep,
    compress: 'gzip',
    mode: 0o600,
    ...(size !== undefined && { size: `${size}B` }),
    ...(every !== undefined && { interval: every }),
  })
  await once(file, 'open')
  return file
}
