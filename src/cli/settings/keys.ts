/**
 * What files of settings and the environment may say: defaults of the options of tasks commands. All of it follows from the
 * tables of these commands: a new option is a new key.
 */
import { Option as Parsed } from 'commander'
import type { Rule, Rules } from '../../core/options.ts'
import type { Command, Option } from '../commands.ts'
import { TASK_COMMANDS } from '../tasks/commands.ts'
import { RUN_COMMAND } from '../tasks/serving.ts'
import { ruleOf } from './rules.ts'

export interface Key {
  /** `cluster`; `tasks` is for all commands that have such an option. */
  readonly section: string
  /** `maxRetries`, as the command gets it. */
  readonly name: string
  readonly option: Option
  /** What it is for; of what is said with `--no-...`, what `false` is for. */
  readonly meaning: string
  readonly rule: Rule<unknown>
  /** Variables of the environment that say it, the first that is set. */
  readonly env: readonly string[]
}

/** Of all commands. */
export const COMMON = 'tasks'

/** What excludes each other: who says one of these says none of the others that something farther away has said. */
const ALTERNATIVES: readonly (readonly string[])[] = [
  ['store', 'server', 'db'],
  ['ssh', 'sshGroup', 'provider', 'launcher', 'mpi'],
  ['fromJson', 'requests'],
  ['format', 'json', 'yaml', 'csv'],
  ['tokenFile', 'MANYHOST_TASKS_TOKEN'],
]

export function alternatives(name: string): readonly string[] {
  const names = ALTERNATIVES.find((names) => names.includes(name)) ?? []
  return names.filter((other) => other !== name)
}

/** By section, then by name. */
export const KEYS: ReadonlyMap<string, ReadonlyMap<string, Key>> = allKeys([
  RUN_COMMAND,
  ...TASK_COMMANDS,
])

export function rulesOf(section: string): Rules {
  return Object.fromEntries([...(KEYS.get(section) ?? [])].map(([name, { rule }]) => [name, rule]))
}

function allKeys(commands: readonly Command[]): ReadonlyMap<string, ReadonlyMap<string, Key>> {
  const sections = new Map<string, Map<string, Key>>([[COMMON, new Map()]])
  const common = sections.get(COMMON) as Map<string, Key>
  const differing = new Set<string>()
  for (const { name: section, options = [] } of commands) {
    const own = options.filter(({ once }) => !once).map((option) => keyOf(section, option))
    sections.set(section, new Map(own.map((key) => [key.name, key])))
    for (const key of own) {
      const known = common.get(key.name)
      // Two commands that read it in two ways have no word in common.
      if (known && known.rule.range !== key.rule.range) differing.add(key.name)
      if (!known) common.set(key.name, keyOf(COMMON, key.option))
    }
  }
  for (const name of differing) common.delete(name)
  return sections
}

function keyOf(section: string, option: Option): Key {
  const parsed = new Parsed(option.flags)
  const name = parsed.attributeName()
  const meaning = parsed.negate ? `false: ${option.meaning}` : option.meaning
  const own = `MANYHOST_${section}_${name.replace(/[A-Z]/g, '_$&')}`.toUpperCase()
  const env = section === COMMON && option.env ? [own, option.env] : [own]
  return { section, name, option, meaning, rule: ruleOf(option), env }
}
