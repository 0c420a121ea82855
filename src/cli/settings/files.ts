/** Reads settings: the files of the system, of the user and of the folder, and the environment. The nearest one counts. */
import { existsSync, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { asError, ManyhostError } from '../../core/errors.ts'
import { CliError } from '../exit.ts'
import {
  COMMON_SECTION,
  listExclusiveOptions,
  rulesForSection,
  SETTINGS_KEYS,
  type SettingsKey,
} from './keys.ts'
import { parseSettingText, toOptionValue } from './rules.ts'

export type SettingsScope = 'system' | 'user' | 'local'
type EnvironmentVariables = Readonly<Record<string, string | undefined>>
type SettingsSections = Readonly<Record<string, Readonly<Record<string, unknown>>>>

/** The settings of one file, or of the environment. */
export interface SettingsLayer {
  readonly scope: SettingsScope | 'environment'
  /** Path of the file. */
  readonly file?: string
  readonly sections: SettingsSections
}

/** The paths of the files, the farthest first. `~/.manyhost` is also the default folder of the store. */
export function settingsPaths(
  env: EnvironmentVariables = process.env,
): Readonly<Record<SettingsScope, string>> {
  const config = env.XDG_CONFIG_HOME
  return {
    system: '/etc/manyhost/tasks.yaml',
    user: config ? join(config, 'manyhost', 'tasks.yaml') : join(homedir(), '.manyhost/tasks.yaml'),
    local: resolve('.manyhost', 'tasks.yaml'),
  }
}

/** Reads all layers, the farthest first. @throws CliError with all errors of a file */
export async function readSettingsLayers(
  env: EnvironmentVariables = process.env,
  files: Partial<Record<SettingsScope, string>> = settingsPaths(env),
): Promise<SettingsLayer[]> {
  const layers: SettingsLayer[] = []
  for (const scope of ['system', 'user', 'local'] as const) {
    const file = files[scope]
    // In the home folder, the file of the folder can be the file of the user.
    const isKnown = layers.some((layer) => layer.file === file)
    if (file === undefined || isKnown || !existsSync(file)) continue
    checkOwner(file)
    layers.push({ scope, file, sections: await readSettings({ path: file }, env) })
  }
  return [...layers, { scope: 'environment', sections: readEnvironment(env) }]
}

/** A user who can write the file can have commands run by `template` or `launcher`. @throws CliError */
function checkOwner(file: string): void {
  const { uid, mode } = statSync(file)
  const own = process.getuid?.()
  const isOthers = own !== undefined && uid !== own && uid !== 0
  if (!isOthers && (mode & 0o002) === 0) return
  const why = isOthers ? 'it belongs to another user' : 'every user can write it'
  throw new CliError(
    'config',
    `${file}: ${why}, and manyhost runs commands of it; change its owner or mode, or work in another folder`,
  )
}

/** Reads a file, or checks a text that is to be written to it. @throws CliError */
export async function readSettings(
  { path, text }: { readonly path: string; readonly text?: string },
  env: EnvironmentVariables = process.env,
): Promise<SettingsSections> {
  // YAML is loaded only if there is a file: most users have none.
  const { readFields } = await import('../../config/read-fields.ts')
  const { ConfigReader } = await import('../../config/reader.ts')
  try {
    const reader = new ConfigReader(text === undefined ? path : { text, path }, env)
    return reader.run((tree) => {
      const sections: Record<string, Record<string, unknown>> = {}
      const others = Object.fromEntries(
        [...SETTINGS_KEYS.keys()].map((section) => [
          section,
          (node: typeof tree, at: string) => {
            sections[section] = readFields(reader, node, rulesForSection(section), at) ?? {}
          },
        ]),
      )
      const ignored = (name: string): boolean => name.startsWith('x-')
      readFields(reader, tree, {}, '', { readers: others, isIgnored: ignored })
      return sections
    }, {})
  } catch (error) {
    if (!(error instanceof ManyhostError)) throw error
    throw new CliError('config', asError(error).message, { cause: error })
  }
}

function readEnvironment(env: EnvironmentVariables): SettingsSections {
  const sections: Record<string, Record<string, unknown>> = {}
  for (const [section, keys] of SETTINGS_KEYS) {
    for (const key of keys.values()) {
      const variable = key.env.find((name) => env[name])
      if (variable === undefined) continue
      try {
        const value = parseSettingText(key, env[variable] as string)
        sections[section] = { ...sections[section], [key.name]: value }
      } catch (error) {
        throw new CliError('config', `${variable}: ${asError(error).message}`)
      }
    }
  }
  return sections
}

/** Merges all layers for one command. */
export function mergeSettings(
  section: string,
  layers: readonly SettingsLayer[],
  env: EnvironmentVariables = process.env,
): ReadonlyMap<string, unknown> {
  const own = SETTINGS_KEYS.get(section) as ReadonlyMap<string, SettingsKey>
  const found = new Map<string, unknown>()
  for (const { scope, sections } of layers) {
    for (const name of [COMMON_SECTION, section]) {
      const entries = Object.entries(sections[name] ?? {}).filter(([key]) => own.has(key))
      const isSet = (key: string): boolean =>
        entries.some(([one]) => one === key) || (scope === 'environment' && Boolean(env[key]))
      for (const key of [...found.keys()])
        if (listExclusiveOptions(key).some(isSet)) found.delete(key)
      for (const [key, value] of entries)
        found.set(key, toOptionValue(own.get(key) as SettingsKey, value))
    }
  }
  return found
}
