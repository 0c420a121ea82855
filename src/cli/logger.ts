/** JSON lines by pino, one form for all that manyhost logs. */
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
