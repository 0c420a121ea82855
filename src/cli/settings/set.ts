/** `manyhost config set`: changes a settings file. A file with errors is not changed. */
import { existsSync, readFileSync } from 'node:fs'
import { parseDocument } from 'yaml'
import { describeError } from '../../core/errors.ts'
import { CliError, EXIT } from '../exit.ts'
import { writeLine } from '../terminal.ts'
import { readSettings, settingsPaths } from './files.ts'
import type { SettingsKey } from './keys.ts'
import { findExposure, parseSettingText } from './rules.ts'
import { chooseScope, findKey, type ScopeFlags } from './scope.ts'
import { replaceSettingsFile } from './write.ts'

export async function run(
  [given = '', words]: readonly unknown[],
  flags: ScopeFlags,
): Promise<number> {
  const key = findKey(given as string)
  const value = parseValue(key, words as readonly string[])
  const file = settingsPaths()[chooseScope(flags) ?? 'user']
  const before = existsSync(file) ? readFileSync(file, 'utf8') : ''
  // A file that has errors already is not changed.
  await readSettings({ path: file, text: before })
  const text = setInDocument(before, key, value)
  await readSettings({ path: file, text })
  replaceSettingsFile(file, text)
  await writeLine(`${key.section}.${key.name} is set in ${file}`)
  return EXIT.ok.number
}

function parseValue(key: SettingsKey, words: readonly string[]): unknown {
  const name = `${key.section}.${key.name}`
  const [first = ''] = words
  if (!key.option.isRepeatable && words.length > 1) {
    throw new CliError('usage', `${name} takes one value, got ${words.length}`)
  }
  const why = findExposure(key, first)
  if (why !== undefined) throw new CliError('usage', `${name}: ${why}`)
  try {
    if (key.option.isRepeatable) return words
    return first.includes('${') ? first : parseSettingText(key, first)
  } catch (error) {
    throw new CliError('usage', `${name}: ${describeError(error)}`)
  }
}

function setInDocument(before: string, { section, name }: SettingsKey, value: unknown): string {
  const document = parseDocument(before)
  try {
    if (document.get(section) == null) document.set(section, { [name]: value })
    else document.setIn([section, name], value)
  } catch (error) {
    // A value below a YAML alias cannot be set.
    throw new CliError('config', `${section}.${name} cannot be set there: ${describeError(error)}`)
  }
  return document.toString()
}
