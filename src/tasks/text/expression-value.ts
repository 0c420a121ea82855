/** The values that an expression can have. */
import type { ExpressionDate } from './expression-date.ts'

/** A bigint stands for a whole number beyond 2^53. */
export type ExpressionValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | ExpressionDate
  | ExpressionValue[]
