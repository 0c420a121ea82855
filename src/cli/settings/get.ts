/** `manyhost config get`. */
import { readFileSync } from 'node:fs'
import { parse, stringify } from 'yaml'
import { storeName } from '../../tasks/store/open.ts'
import { CliError, EXIT } from '../exit.ts'
import { line, write } from '../terminal.ts'
import { type Layer, readLayers, settingsFiles } from './files.ts'
import { KEYS } from './keys.ts'
import { exposed } from './rules.ts'
import { keyNamed, type ScopeFlags, scopeOf, sectionNamed } from './scope.ts'

interface GetFlags extends ScopeFlags {
  readonly expand?: boolean
}

type Found = Record<string, Record<string, unknown>>

export async function run(
  [name]: readonly (string | undefined)[],
  flags: GetFlags,
): Promise<number> {
  const found = overlaid(await layersOf(flags), flags.expand === true)
  if (name === undefined) {
    if (Object.keys(found).length > 0) await write(stringify(found))
    return EXIT.ok.number
  }
  if (!name.includes('.')) {
    sectionNamed(name)
    if (found[name]) await write(stringify(found[name]))
    return EXIT.ok.number
  }
  const { section, name: key } = keyNamed(name)
  const value = found[section]?.[key]
  if (value === undefined) throw new CliError('notFound', `${name} is not set`)
  if (Array.isArray(value)) await write(stringify(value))
  else await line(String(value))
  return EXIT.ok.number
}

async function layersOf(flags: ScopeFlags): Promise<readonly Layer[]> {
  const scope = scopeOf(flags)
  if (scope === undefined) return readLayers()
  const layers = await readLayers(process.env, { [scope]: settingsFiles()[scope] })
  return layers.filter((layer) => layer.scope === scope)
}

/** Whoever is nearer counts. */
function overlaid(layers: readonly Layer[], isExpanded: boolean): Found {
  const nearest = layers.map((layer) => (isExpanded ? layer.sections : written(layer))).reverse()
  const found: Found = {}
  for (const [section, keys] of KEYS) {
    for (const [name, key] of keys) {
      const value = nearest
        .map((sections) => sections?.[section]?.[name])
        .find((one) => one != null)
      if (value === undefined) continue
      const isSecret = !isExpanded && exposed(key, String(value)) !== undefined
      found[section] = { ...found[section], [name]: isSecret ? storeName(String(value)) : value }
    }
  }
  return found
}

/** Before anything is put in for `${...}`; null for an empty file. */
function written({ file, sections }: Layer): Layer['sections'] | null {
  return file === undefined ? sections : parse(readFileSync(file, 'utf8'), { merge: true })
}
