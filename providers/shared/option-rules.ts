/** Rules of options that several providers have. */
import { ManyhostError } from '../../src/core/errors.ts'
import { oneOf, type Rule, rule, text, whole } from '../../src/core/options.ts'
import type { PortRange } from './ports.ts'

/** The port of a server. */
export function portRule(initial?: number): Rule<number> {
  return rule(
    'a whole number from 1 to 65535',
    initial,
    (value) => (isPort(value) ? value : undefined),
    {
      is: 'number',
      min: 1,
      max: 65_535,
      whole: true,
    },
  )
}

/**
 * First and last port of instances. The default lies below the ephemeral ports of the kernel (from 32768 on Linux): see
 * `ProcessOptions.ports`.
 */
export const PORTS_RULE: Rule<PortRange> = rule<PortRange>(
  '[from, to], whole numbers from 1 to 65535, from <= to',
  [20_000, 32_000],
  (value) => {
    if (!Array.isArray(value) || value.length !== 2) return undefined
    const [from, to] = value as readonly unknown[]
    return isPort(from) && isPort(to) && from <= to ? [from, to] : undefined
  },
  { is: 'list', of: whole(1, 1), minItems: 2 },
)

/** What becomes of the instances that a killed session left. */
export const ADOPT_RULE = oneOf(['sweep', 'keep'], 'sweep')

/** The name of a program, by which its next run finds what an earlier run left. */
export const OWNER_RULE = text('letters, digits and -_. only', (value) =>
  /^[\w.-]{1,100}$/.test(value),
)

/** A text that is not empty, without line breaks. */
export function lineRule(range: string, initial?: string): Rule<string> {
  return { ...text(range, isLine), initial }
}

export function isLine(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && !/[\0\r\n]/.test(value)
}

/** A whole number from 1 up, without a default. */
export function countRule(range = 'a whole number from 1 up'): Rule<number> {
  return { ...whole(1, 1), range, initial: undefined }
}

/** A number from `min` up. */
export function atLeastRule(
  unit: 'milliseconds' | 'bytes',
  min: number,
  initial?: number,
): Rule<number> {
  return rule(
    `${unit} from ${min} up`,
    initial,
    (value) =>
      typeof value === 'number' && Number.isFinite(value) && value >= min ? value : undefined,
    { is: 'number', min, unit: unit === 'bytes' ? 'bytes' : 'ms' },
  )
}

export function isPort(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65_535
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function invalidOption(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}
