/**
 * The keys of settings files and of the environment. Each is the default of an option of a command of tasks, and follows from
 * the tables of these commands: a new option is a new key.
 */
import { Option as Parsed } from 'commander'
import type { Rule, Rules } from '../../core/options.ts'
import type { CliCommand, CliOption } from '../command.ts'
import { TASK_COMMANDS } from '../tasks/commands.ts'
import { RUN_COMMAND } from '../tasks/serving-commands.ts'
import { ruleForOption } from './rules.ts'

export interface SettingsKey {
  /** Name of the command, such as `cluster`; or `tasks` for all commands that have the option. */
  readonly section: string
  /** Name of the option as the command gets it: `maxRetries`. */
  readonly name: string
  readonly option: CliOption
  /** The meaning of the option. For a `--no-...` option, the meaning of `false`. */
  readonly meaning: string
  readonly rule: Rule<unknown>
  /** Environment variables that set the key. The first one that is set counts. */
  readonly env: readonly string[]
}

/** The section with keys of all commands. */
export const COMMON_SECTION = 'tasks'

/** Options that exclude each other. A nearer setting of one removes farther settings of the others. */
const EXCLUSIVE_OPTIONS: readonly (readonly string[])[] = [
  ['store', 'server', 'db'],
  ['ssh', 'sshGroup', 'provider', 'launcher', 'mpi'],
  ['fromJson', 'requests'],
  ['format', 'json', 'yaml', 'csv'],
  ['tokenFile', 'MANYHOST_TASKS_TOKEN'],
]

export function listExclusiveOptions(name: string): readonly string[] {
  const names = EXCLUSIVE_OPTIONS.find((names) => names.includes(name)) ?? []
  return names.filter((other) => other !== name)
}

/** The keys by section, then by name. */
export const SETTINGS_KEYS: ReadonlyMap<string, ReadonlyMap<string, SettingsKey>> = collectKeys([
  RUN_COMMAND,
  ...TASK_COMMANDS,
])

export function rulesForSection(section: string): Rules {
  return Object.fromEntries(
    [...(SETTINGS_KEYS.get(section) ?? [])].map(([name, { rule }]) => [name, rule]),
  )
}

function collectKeys(
  commands: readonly CliCommand[],
): ReadonlyMap<string, ReadonlyMap<string, SettingsKey>> {
  const sections = new Map<string, Map<string, SettingsKey>>([[COMMON_SECTION, new Map()]])
  const common = sections.get(COMMON_SECTION) as Map<string, SettingsKey>
  const differing = new Set<string>()
  for (const { name: section, options = [] } of commands) {
    const own = options
      .filter(({ commandLineOnly }) => !commandLineOnly)
      .map((option) => createKey(section, option))
    sections.set(section, new Map(own.map((key) => [key.name, key])))
    for (const key of own) {
      const known = common.get(key.name)
      // An option that two commands parse differently is not in the common section.
      if (known && known.rule.range !== key.rule.range) differing.add(key.name)
      if (!known) common.set(key.name, createKey(COMMON_SECTION, key.option))
    }
  }
  for (const name of differing) common.delete(name)
  return sections
}

function createKey(section: string, option: CliOption): SettingsKey {
  const parsed = new Parsed(option.flags)
  const name = parsed.attributeName()
  const meaning = parsed.negate ? `false: ${option.meaning}` : option.meaning
  const own = `MANYHOST_${section}_${name.replace(/[A-Z]/g, '_$&')}`.toUpperCase()
  const env = section === COMMON_SECTION && option.env ? [own, option.env] : [own]
  return { section, name, option, meaning, rule: ruleForOption(option), env }
}
