/** The log of `serve`: JSON lines by pino, or lines for people. What is secret is blotted out of both. */
import type { Level, Logger } from 'pino'
import type { Config } from '../../config/config.ts'
import { createJsonLogger } from '../logger.ts'
import { createPaint, type Paint, printable } from '../terminal.ts'

export type ServeLogFormat = 'pretty' | 'json' | 'quiet'

export interface ServeLogOptions {
  readonly format: ServeLogFormat
  readonly level: Config['log']['level']
}

export interface ServeLog {
  readonly logger: Logger
  readonly format: ServeLogFormat
  /** Replaces what must not be shown: a changed file has others. */
  setSecrets(secrets: readonly string[]): void
  /** Says more or less from now on. */
  setLevel(level: ServeLogOptions['level']): void
}

export function openServeLog({ format: how, level }: ServeLogOptions): ServeLog {
  let blot = createRedactor([])
  const stream = how === 'quiet' ? process.stderr : process.stdout
  const paint = createPaint(stream)
  const write = (line: string): void => {
    const clean = blot(line)
    stream.write(how === 'json' ? clean : formatLogLine(JSON.parse(clean), paint))
  }
  const levelOf = (given: ServeLogOptions['level']): ServeLogOptions['level'] =>
    how === 'quiet' && given !== 'silent' ? 'error' : given
  const logger = createJsonLogger(levelOf(level), { write })
  return {
    logger,
    format: how,
    setSecrets(secrets) {
      blot = createRedactor(secrets)
    },
    setLevel(given) {
      logger.level = levelOf(given)
    },
  }
}

/** Takes secrets out of a line of JSON; those of a letter or two would take everything with them. */
export function createRedactor(secrets: readonly string[]): (line: string) => string {
  const written = secrets
    .filter((secret) => secret.length >= 4)
    .map((secret) => JSON.stringify(secret).slice(1, -1))
  return (line) => written.reduce((text, secret) => text.replaceAll(secret, '[secret]'), line)
}

const STYLES: Readonly<Record<Level, Parameters<Paint>[0]>> = {
  trace: 'dim',
  debug: 'dim',
  info: 'green',
  warn: 'yellow',
  error: 'red',
  fatal: 'red',
}

interface ServeLogLine {
  readonly level: Level
  readonly time: string
  readonly msg: string
  readonly reason?: string
  /** What an instance wrote, or the lines of an error: below, one by one. */
  readonly output?: string
}

/** `12:34:56 info  http://calc: calc-1 is ready` */
export function formatLogLine(
  { level, time, msg, reason, output }: ServeLogLine,
  paint: Paint,
): string {
  const clock = paint('dim', new Date(time).toTimeString().slice(0, 8))
  const why = reason ? ` (${printable(reason)})` : ''
  const below = (output ?? '').trimEnd().split('\n').filter(Boolean)
  const lines = [
    `${clock} ${paint(STYLES[level], level.padEnd(5))} ${printable(msg)}${why}`,
    ...below.map((one) => `  ${paint('dim', '|')} ${printable(one)}`),
  ]
  return `${lines.join('\n')}\n`
}
