/** Which file, and which key of it, the command line means. */
import { nearest } from '../../config/nearest.ts'
import { CliError } from '../exit.ts'
import type { Scope } from './files.ts'
import { KEYS, type Key } from './keys.ts'

export interface ScopeFlags {
  readonly system?: boolean
  readonly user?: boolean
  readonly local?: boolean
}

/** @throws CliError for two of them */
export function scopeOf(flags: ScopeFlags): Scope | undefined {
  const named = (['system', 'user', 'local'] as const).filter((scope) => flags[scope])
  if (named.length > 1) throw new CliError('usage', 'say one of --system, --user, --local')
  return named[0]
}

/** @throws CliError where there is no such section */
export function sectionNamed(section: string): ReadonlyMap<string, Key> {
  const keys = KEYS.get(section)
  if (keys) return keys
  throw unknown('section', section, [...KEYS.keys()])
}

/** `cluster.maxRetries`. @throws CliError where there is no such key */
export function keyNamed(text: string): Key {
  const [section = '', name = ''] = text.split('.', 2)
  const keys = sectionNamed(section)
  const key = keys.get(name)
  if (key && text === `${section}.${name}`) return key
  const rest = text.slice(section.length + 1)
  throw unknown(`key of ${section}`, rest, [...keys.keys()])
}

function unknown(what: string, given: string, names: readonly string[]): CliError {
  const near = nearest(given, names)
  const hint = near === undefined ? `there are ${names.join(', ')}` : `did you mean '${near}'?`
  return new CliError('usage', `no ${what} is called '${given}'; ${hint}`)
}
