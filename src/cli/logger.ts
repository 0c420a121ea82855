/** Writes logs as JSON lines by pino. All logs of manyhost have this form. */
import { type DestinationStream, type LevelWithSilent, type Logger, pino } from 'pino'

export function createJsonLogger(level: LevelWithSilent, to: DestinationStream): Logger {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    to,
  )
}
