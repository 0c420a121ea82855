/** Small texts that several commands print. Pure. */
import { printable } from './terminal.ts'

/** `1 task`, `2 tasks`. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}

/** The first line of a message, such as an error with the last lines of a server below it. */
export function takeFirstLine(text: string): string {
  return printable(text.split('\n', 1)[0] as string)
}

/** `12ms`, `1.3s`, `90s`, `4m`, `2h`, `3d`; `-` for a time that is not known. */
export function formatDuration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return '-'
  if (ms < 1) return ms === 0 ? '0ms' : '<1ms'
  if (ms < 999.5) return `${Math.round(ms)}ms`
  if (ms < 9_950) return `${(ms / 1_000).toFixed(1)}s`
  if (ms < 119_500) return `${Math.round(ms / 1_000)}s`
  if (ms < 7_170_000) return `${Math.round(ms / 60_000)}m`
  if (ms < 171_000_000) return `${Math.round(ms / 3_600_000)}h`
  return `${Math.round(ms / 86_400_000)}d`
}
