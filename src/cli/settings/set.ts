/** `manyhost config set`: changes a file as a whole, or not at all. */
import { existsSync, readFileSync } from 'node:fs'
import { parseDocument } from 'yaml'
import { describe } from '../../core/errors.ts'
import { CliError, EXIT } from '../exit.ts'
import { line } from '../terminal.ts'
import { readSettings, settingsFiles } from './files.ts'
import type { Key } from './keys.ts'
import { exposed, readWord } from './rules.ts'
import { keyNamed, type ScopeFlags, scopeOf } from './scope.ts'
import { writeWhole } from './write.ts'

export async function run(
  [given = '', words]: readonly unknown[],
  flags: ScopeFlags,
): Promise<number> {
  const key = keyNamed(given as string)
  const value = valueFor(key, words as readonly string[])
  const file = settingsFiles()[scopeOf(flags) ?? 'user']
  const before = existsSync(file) ? readFileSync(file, 'utf8') : ''
  // A file that is wrong already is not made over.
  await readSettings({ path: file, text: before })
  const text = changed(before, key, value)
  await readSettings({ path: file, text })
  writeWhole(file, text)
  await line(`${key.section}.${key.name} is set in ${file}`)
  return EXIT.ok.number
}

function valueFor(key: Key, words: readonly string[]): unknown {
  const name = `${key.section}.${key.name}`
  const [first = ''] = words
  if (!key.option.many && words.length > 1) {
    throw new CliError('usage', `${name} has one value, got ${words.length}`)
  }
  const why = exposed(key, first)
  if (why !== undefined) throw new CliError('usage', `${name}: ${why}`)
  try {
    if (key.option.many) return words
    return first.includes('${') ? first : readWord(key, first)
  } catch (error) {
    throw new CliError('usage', `${name}: ${describe(error)}`)
  }
}

function changed(before: string, { section, name }: Key, value: unknown): string {
  const document = parseDocument(before)
  try {
    if (document.get(section) == null) document.set(section, { [name]: value })
    else document.setIn([section, name], value)
  } catch (error) {
    // Below an alias there is no place of its own.
    throw new CliError('config', `${section}.${name} cannot be set there: ${describe(error)}`)
  }
  return document.toString()
}
