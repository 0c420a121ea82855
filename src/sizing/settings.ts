/** Checks the settings of policies and wrappers. All of them are numbers, and are parsed once, when the policy is made. */
import { describe } from '../core/describe.ts'
import { ManyhostError } from '../core/errors.ts'

export interface PolicySetting {
  readonly default: number
  /** Least value, itself allowed. */
  readonly min: number
  /** Greatest value, itself allowed. @default Infinity */
  readonly max?: number
  /** Whether only whole numbers will do; `Infinity` counts as one. */
  readonly whole?: boolean
  /** For files, where `'30s'` may be written. */
  readonly unit?: 'ms'
}

/**
 * The settings with their defaults. A setting that is `undefined` takes its default.
 * @throws ManyhostError MANYHOST_INVALID_OPTION for an unknown name, a value that is no number, or a number out of its range
 */
export function checkSettings<Name extends string>(
  where: string,
  given: { readonly [N in Name]?: number | undefined },
  known: Readonly<Record<Name, PolicySetting>>,
): Record<Name, number> {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw settingError(`${where}: settings must be an object, got ${describe(given)}`)
  }
  const names = Object.keys(known) as Name[]
  const stranger = Object.keys(given).find((name) => !Object.hasOwn(known, name))
  if (stranger !== undefined) {
    throw settingError(`${where}: unknown setting '${stranger}'; known: ${names.join(', ')}`)
  }
  const entries = names.map((name) => [
    name,
    checkSetting(`${where}: ${name}`, given[name], known[name]),
  ])
  return Object.fromEntries(entries)
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function checkSetting(where: string, given: unknown, known: PolicySetting): number {
  const { min, max = Infinity, whole = false } = known
  const value = given === undefined ? known.default : given
  const fits = typeof value === 'number' && value >= min && value <= max
  if (fits && (!whole || value === Infinity || Number.isInteger(value))) return value
  throw settingError(`${where} must be ${describeSettingRange(known)}, got ${describe(given)}`)
}

export function describeSettingRange({
  min,
  max = Infinity,
  whole = false,
}: PolicySetting): string {
  const kind = whole ? 'a whole number' : 'a number'
  const up = max === Infinity || max === Number.MAX_SAFE_INTEGER
  return `${kind} from ${min} ${up ? 'up' : `to ${max}`}`
}

export function settingError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}
