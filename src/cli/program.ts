/** Builds the parser of the command line (commander) from the table of commands. */
import {
  type Command,
  createCommand,
  InvalidArgumentError,
  Option,
  type OutputConfiguration,
} from 'commander'
import { version } from '../core/version.ts'
import { redactPasswords } from '../posix/environment.ts'
import { ALL_COMMANDS } from './all-commands.ts'
import { ADMIN_OPTIONS, type CliCommand, type CliOption, type ReplacedOption } from './command.ts'
import { PARENT_COMMANDS } from './commands.ts'
import { CliError, EXIT, TASK_EXIT } from './exit.ts'
import { setUnreadRule } from './output-readers.ts'

/** Creates the program. It calls `onExit` with the exit code of the command. */
export function createProgram(onExit: (code: number) => void): Command {
  const root = createCommand('manyhost')
    .description('One URL, many hosts: requests to a virtual URL, served by a cluster of instances')
    .usage('<command> [options]')
    .version(version(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help, or that of a command')
    .helpCommand('help [command]', 'print the help of a command')
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(redactSecrets(text)) })
    .addHelpText('after', () => formatRootHelp())
  const parents = new Map<string, Command>()
  for (const entry of ALL_COMMANDS) {
    const [first = '', second] = entry.name.split(' ')
    if (second === undefined) root.addCommand(createSubcommand(entry, first, root, onExit))
    else {
      const parent = parents.get(first) ?? addParentCommand(first, root)
      parents.set(first, parent)
      parent.addCommand(createSubcommand(entry, second, root, onExit))
    }
  }
  return root
}

function addParentCommand(name: string, root: Command): Command {
  const { summary = '', group = '' } = PARENT_COMMANDS[name] ?? {}
  const made = root.createCommand(name).copyInheritedSettings(root)
  made.summary(summary).description(toSentence(summary)).helpGroup(`${group}:`)
  if (name === 'tasks') made.addHelpText('after', formatExitCodes(TASK_EXIT))
  for (const [other, instead] of Object.entries(MOVED_COMMANDS[name] ?? {})) {
    const hidden = made.command(other, { hidden: true }).allowUnknownOption().allowExcessArguments()
    hidden.helpOption(false).action(() => {
      throw new CliError('usage', `there is no 'manyhost ${name} ${other}': ${instead}`)
    })
  }
  root.addCommand(made)
  return made
}

/** Commands of HyperShell that have another name here. */
const MOVED_COMMANDS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  tasks: {
    client:
      'a cluster or server starts its runners itself; on machines that connect to it, run manyhost agent',
    config: 'manyhost config',
    run: 'manyhost run',
    search: 'manyhost tasks list',
    task: 'use the commands of manyhost tasks',
  },
}

function createSubcommand(
  entry: CliCommand,
  name: string,
  root: Command,
  onExit: (code: number) => void,
): Command {
  const made = root.createCommand(name).copyInheritedSettings(root)
  made.summary(entry.summary).description(toSentence(entry.summary)).helpGroup(`${entry.group}:`)
  for (const { name, meaning } of entry.args ?? []) made.argument(name, meaning)
  for (const flag of entry.options ?? []) {
    const known = createOption(flag)
    made.addOption(known)
    for (const name of flag.aliases ?? []) addAlias(made, known, flag, name)
  }
  for (const option of entry.replacedOptions ?? []) addReplacedOption(made, option)
  if (entry.options?.some(isVariadic)) made.configureOutput(explainVariadicOptions(entry))
  for (const flag of entry.usesAdminAddress ? ADMIN_OPTIONS : [])
    made.addOption(createAdminOption(flag))
  made.addHelpText('after', () => formatExamples(entry.examples))
  made.action(async (...given: unknown[]) => {
    refuseExposedSecrets(made, entry)
    if (entry.settingsSection !== undefined) {
      const { applySettings } = await import('./settings/defaults.ts')
      await applySettings(made, entry.settingsSection)
    }
    const { whenUnread = 'goOn' } = entry
    setUnreadRule(typeof whenUnread === 'string' ? whenUnread : whenUnread(made.opts()))
    const { run } = await entry.load()
    const count = entry.args?.length ?? 0
    // The value of a `[text...]` argument is a list.
    onExit(await run(given.slice(0, count) as string[], made.opts() as never))
  })
  return made
}

function createOption({
  flags,
  meaning,
  choices,
  defaultValue,
  isRepeatable,
  parse,
}: CliOption): Option {
  const made = new Option(flags, meaning)
  if (choices) made.choices(choices)
  if (defaultValue !== undefined) made.default(defaultValue)
  if (isRepeatable) {
    made.argParser((value: string, before: string[] | undefined) => [...(before ?? []), value])
  }
  if (parse) {
    made.argParser((value: string) => {
      try {
        return parse(value)
      } catch (error) {
        throw new InvalidArgumentError((error as Error).message)
      }
    })
  }
  return made
}

/** A message of the parser can quote an option with its value, or an address with its password. */
function redactSecrets(text: string): string {
  return redactPasswords(text.replace(/(unknown option '-[\w-]*=)[^']*/, '$1***'))
}

/** Adds another name of an option, which sets the same value. */
function addAlias(made: Command, known: Option, flag: CliOption, name: string): void {
  const word = /[<[].*$/.exec(flag.flags)?.[0]
  const alias = createOption({
    ...flag,
    flags: word === undefined ? name : `${name} ${word}`,
  }).hideHelp()
  made.addOption(alias)
  made.on(`option:${alias.name()}`, () => {
    const value = made.getOptionValue(alias.attributeName())
    made.setOptionValueWithSource(known.attributeName(), value, 'cli')
  })
}

/** Makes an option of HyperShell end the command with its advice. */
function addReplacedOption(made: Command, { flags, advice }: ReplacedOption): void {
  const option = new Option(flags).hideHelp()
  made.addOption(option)
  if (advice === undefined) return
  made.on(`option:${option.name()}`, () => {
    throw new CliError('usage', `${flags.replace(/ <.*/, '')}: ${advice}`)
  })
}

function isVariadic({ flags }: CliOption): boolean {
  return flags.includes('...')
}

/**
 * In `-t a:1 make` the option `-t` takes `make` as well, as HyperShell's does, although the user means a command. So the message
 * about the missing argument gets a hint.
 */
function explainVariadicOptions({ options = [] }: CliCommand): OutputConfiguration {
  const names = options.filter(isVariadic).map(({ flags }) => flags.replace(/ <.*/, ''))
  const hint = `${names.join(' and ')} take all words up to the next option: write -- before the command or the fields`
  return {
    outputError: (text, write) => {
      const redacted = redactSecrets(text)
      write(text.includes('missing required argument') ? `${redacted}${hint}\n` : redacted)
    },
  }
}

/** @throws CliError for a secret on the command line */
function refuseExposedSecrets(made: Command, { options = [] }: CliCommand): void {
  for (const { flags, exposureReason } of options) {
    const known = made.options.find((option) => option.flags === flags)
    const value = exposureReason && known && made.opts()[known.attributeName()]
    const reason = typeof value === 'string' ? exposureReason?.(value) : undefined
    if (reason !== undefined) throw new CliError('usage', `${known?.long}: ${reason}`)
  }
}

/** `MANYHOST_ADMIN` is the default of `--admin`. */
function createAdminOption(flag: CliOption): Option {
  const made = createOption(flag)
  if (made.long === '--admin') {
    made.default(process.env.MANYHOST_ADMIN || 'http://127.0.0.1:9090')
  }
  return made
}

function toSentence(summary: string): string {
  return `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`
}

function formatExamples(lines: CliCommand['examples']): string {
  const longest = Math.max(...lines.map(([line]) => line.length))
  const width = Math.min(longest, 48)
  const rows = lines.map(([line, meaning]) =>
    line.length > width
      ? `  $ ${line}\n    ${' '.repeat(width)}  ${meaning}`
      : `  $ ${line.padEnd(width)}  ${meaning}`,
  )
  return `\nExamples:\n${rows.join('\n')}`
}

function formatRootHelp(): string {
  return [
    formatExamples([
      ['manyhost init && manyhost serve', 'creates a fleet and serves it'],
      ['curl http://127.0.0.1:8080/calc/add/1/2', 'sends a request to the service http://calc'],
      ['manyhost size calc 5', 'starts more instances of it'],
    ]),
    formatExitCodes(EXIT),
  ].join('\n')
}

function formatExitCodes(
  table: Readonly<Record<string, { number: number; meaning: string }>>,
): string {
  const lines = Object.values(table).map(
    ({ number, meaning }) => `  ${String(number).padStart(3)}  ${meaning}`,
  )
  return ['', 'Exit codes:', ...lines].join('\n')
}
