/** Options by a table: what each must be, and whether a value is that. */
import { ManyhostError } from '../../src/core/errors.ts'

export type OptionChecks<Options> = {
  readonly [Name in keyof Required<Options>]: readonly [
    wanted: string,
    isRight: (value: unknown) => boolean,
  ]
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function checkOptions<Options extends object>(
  where: string,
  options: Options,
  checks: OptionChecks<Options>,
): void {
  if (!isRecord(options))
    throw invalidOption(`${where}: options are an object, got ${formatValue(options)}`)
  for (const [name, value] of Object.entries(options)) {
    if (!Object.hasOwn(checks, name)) {
      throw invalidOption(
        `${where} has no option '${name}'; it has ${Object.keys(checks).join(', ')}`,
      )
    }
    if (value === undefined) continue
    const [wanted, isRight] = checks[name as keyof Options]
    if (!isRight(value))
      throw invalidOption(`${where}: ${name} must be ${wanted}, got ${formatValue(value)}`)
  }
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && !/[\0\r\n]/.test(value)
}

export function isTextList(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every(isText)
}

export function isEnvironment(value: unknown): boolean {
  return isRecord(value) && Object.values(value).every((one) => typeof one === 'string')
}

export function isPort(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65_535
}

export function isPortRange(value: unknown): boolean {
  if (!Array.isArray(value) || value.length !== 2) return false
  const [from, to] = value as unknown[]
  return isPort(from) && isPort(to) && from <= to
}

export function isAtLeast(min: number): (value: unknown) => boolean {
  return (value) => typeof value === 'number' && Number.isFinite(value) && value >= min
}

export function formatValue(value: unknown): string {
  return (JSON.stringify(value) ?? String(value)).slice(0, 200)
}

export function invalidOption(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}
