/** Finds the settings file and the key that a command line names. */
import { findNearest } from '../../config/nearest.ts'
import { CliError } from '../exit.ts'
import type { SettingsScope } from './files.ts'
import { SETTINGS_KEYS, type SettingsKey } from './keys.ts'

export interface ScopeFlags {
  readonly system?: boolean
  readonly user?: boolean
  readonly local?: boolean
}

/** @throws CliError for two scopes */
export function chooseScope(flags: ScopeFlags): SettingsScope | undefined {
  const named = (['system', 'user', 'local'] as const).filter((scope) => flags[scope])
  if (named.length > 1) throw new CliError('usage', 'give one of --system, --user, --local')
  return named[0]
}

/** @throws CliError for an unknown section */
export function findSection(section: string): ReadonlyMap<string, SettingsKey> {
  const keys = SETTINGS_KEYS.get(section)
  if (keys) return keys
  throw unknownNameError('section', section, [...SETTINGS_KEYS.keys()])
}

/** Finds a key such as `cluster.maxRetries`. @throws CliError for an unknown key */
export function findKey(text: string): SettingsKey {
  const [section = '', name = ''] = text.split('.', 2)
  const keys = findSection(section)
  const key = keys.get(name)
  if (key && text === `${section}.${name}`) return key
  const rest = text.slice(section.length + 1)
  throw unknownNameError(`key of ${section}`, rest, [...keys.keys()])
}

function unknownNameError(what: string, given: string, names: readonly string[]): CliError {
  const near = findNearest(given, names)
  const hint = near === undefined ? `there are ${names.join(', ')}` : `did you mean '${near}'?`
  return new CliError('usage', `no ${what} is called '${given}'; ${hint}`)
}
