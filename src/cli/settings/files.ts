/** Files of settings, of the system, of the user, of the folder, and the environment: who is nearer counts. */
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

/** What one file, or the environment, says. */
export interface SettingsLayer {
  readonly scope: SettingsScope | 'environment'
  /** Path of the file. */
  readonly file?: string
  readonly sections: SettingsSections
}

/** Where files are, the farthest first. `~/.manyhost` is also where the store is unless somebody says otherwise. */
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

/** All there are, the farthest first. @throws CliError with all that is wrong in one of them */
export async function readSettingsLayers(
  env: EnvironmentVariables = process.env,
  files: Partial<Record<SettingsScope, string>> = settingsPaths(env),
): Promise<SettingsLayer[]> {
  const layers: SettingsLayer[] = []
  for (const scope of ['system', 'user', 'local'] as const) {
    const file = files[scope]
    // In one's home folder that of the folder may be one's own.
    const isKnown = layers.some((layer) => layer.file === file)
    if (file === undefined || isKnown || !existsSync(file)) continue
    checkOwner(file)
    layers.push({ scope, file, sections: await readSettings({ path: file }, env) })
  }
  return [...layers, { scope: 'environment', sections: readEnvironment(env) }]
}

/** Who can write it can have commands run: `template`, `launcher`. */
function checkOwner(file: string): void {
  const { uid, mode } = statSync(file)
  const own = process.getuid?.()
  const isOthers = own !== undefined && uid !== own && uid !== 0
  if (!isOthers && (mode & 0o002) === 0) return
  const why = isOthers ? 'it belongs to another user' : 'everybody can write it'
  throw new CliError(
    'config',
    `${file}: ${why}, and what it says is run; change that, or work in another folder`,
  )
}

/** A file, or a text that is to become one. @throws CliError */
export async function readSettings(
  { path, text }: { readonly path: string; readonly text?: string },
  env: EnvironmentVariables = process.env,
): Promise<SettingsSections> {
  // Most who run tasks have no such file: YAML is loaded for those who do.
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

/** What all of them say to one command. */
export function mergeSettings(
  section: string,
  layers: readonly SettingsLayer[],
  env: EnvironmentVariables = process.env,
): ReadonlyMap<string, unknown> {
  const own = SETTINGS_KEYS.get(section) as ReadonlyMap<string, SettingsKey>
  const found = new Map<string, unknown>()
  for (const { scope, sections } of layers) {
    for (const name of [COMMON_SECTION, section]) {
      const said = Object.entries(sections[name] ?? {}).filter(([key]) => own.has(key))
      const isSaid = (key: string): boolean =>
        said.some(([one]) => one === key) || (scope === 'environment' && Boolean(env[key]))
      for (const key of [...found.keys()])
        if (listExclusiveOptions(key).some(isSaid)) found.delete(key)
      for (const [key, value] of said)
        found.set(key, toOptionValue(own.get(key) as SettingsKey, value))
    }
  }
  return found
}
