/** `manyhost config get`: prints settings. */
import { readFileSync } from 'node:fs'
import { parse, stringify } from 'yaml'
import { storeName } from '../../tasks/store/open.ts'
import { CliError, EXIT } from '../exit.ts'
import { write, writeLine } from '../terminal.ts'
import { readSettingsLayers, type SettingsLayer, settingsPaths } from './files.ts'
import { SETTINGS_KEYS } from './keys.ts'
import { findExposure } from './rules.ts'
import { chooseScope, findKey, findSection, type ScopeFlags } from './scope.ts'

interface GetFlags extends ScopeFlags {
  readonly expand?: boolean
}

type MergedSections = Record<string, Record<string, unknown>>

export async function run(
  [name]: readonly (string | undefined)[],
  flags: GetFlags,
): Promise<number> {
  const found = mergeLayers(await selectLayers(flags), flags.expand === true)
  if (name === undefined) {
    if (Object.keys(found).length > 0) await write(stringify(found))
    return EXIT.ok.number
  }
  if (!name.includes('.')) {
    findSection(name)
    if (found[name]) await write(stringify(found[name]))
    return EXIT.ok.number
  }
  const { section, name: key } = findKey(name)
  const value = found[section]?.[key]
  if (value === undefined) throw new CliError('notFound', `${name} is not set`)
  if (Array.isArray(value)) await write(stringify(value))
  else await writeLine(String(value))
  return EXIT.ok.number
}

async function selectLayers(flags: ScopeFlags): Promise<readonly SettingsLayer[]> {
  const scope = chooseScope(flags)
  if (scope === undefined) return readSettingsLayers()
  const layers = await readSettingsLayers(process.env, { [scope]: settingsPaths()[scope] })
  return layers.filter((layer) => layer.scope === scope)
}

/** The value of the nearest layer counts. */
function mergeLayers(layers: readonly SettingsLayer[], isExpanded: boolean): MergedSections {
  const nearest = layers
    .map((layer) => (isExpanded ? layer.sections : readRawSections(layer)))
    .reverse()
  const found: MergedSections = {}
  for (const [section, keys] of SETTINGS_KEYS) {
    for (const [name, key] of keys) {
      const value = nearest
        .map((sections) => sections?.[section]?.[name])
        .find((one) => one != null)
      if (value === undefined) continue
      const isSecret = !isExpanded && findExposure(key, String(value)) !== undefined
      found[section] = { ...found[section], [name]: isSecret ? storeName(String(value)) : value }
    }
  }
  return found
}

/** The values as they are written, with `${...}`; null for an empty file. */
function readRawSections({ file, sections }: SettingsLayer): SettingsLayer['sections'] | null {
  return file === undefined ? sections : parse(readFileSync(file, 'utf8'), { merge: true })
}
