/** `manyhost completion`: a script for a shell, made of the table of commands. The script asks for names of services. */
import { ADMIN_OPTIONS, type CliArgument, type CliCommand, type CliOption } from './command.ts'
import { CliError, EXIT } from './exit.ts'
import { write } from './terminal.ts'

/** The commands that a script completes. */
interface CommandTable {
  /** All of them, as `tasks list`. */
  readonly commands: readonly CliCommand[]
  /** By their first word. A parent command has the options of all commands below it. */
  readonly topLevel: readonly CliCommand[]
}

type ParentCommands = Readonly<Record<string, Pick<CliCommand, 'summary' | 'group'>>>

const SCRIPT_WRITERS: Readonly<Record<string, (table: CommandTable) => string>> = {
  bash: writeBashScript,
  zsh: writeZshScript,
  fish: writeFishScript,
}

/** @throws CliError for a shell that has no script */
export async function printCompletion(
  shell: string = '',
  commands: readonly CliCommand[],
  parents: ParentCommands,
): Promise<number> {
  const writeScript = Object.hasOwn(SCRIPT_WRITERS, shell) ? SCRIPT_WRITERS[shell] : undefined
  if (!writeScript) {
    const known = Object.keys(SCRIPT_WRITERS).join(', ')
    throw new CliError('usage', `expected one of ${known}, got ${JSON.stringify(shell)}`)
  }
  await write(writeScript({ commands, topLevel: listTopLevel(commands, parents) }))
  return EXIT.ok.number
}

function listTopLevel(commands: readonly CliCommand[], parents: ParentCommands): CliCommand[] {
  const ofParents = Object.entries(parents).flatMap(([name, { summary }]) => {
    const below = commands.filter((one) => one.name.startsWith(`${name} `))
    const options = new Map(
      below.flatMap((one) => one.options ?? []).map((option) => [option.flags, option]),
    )
    return below[0]
      ? [{ ...below[0], name, summary, args: [], options: [...options.values()] }]
      : []
  })
  return [...commands.filter(({ name }) => !name.includes(' ')), ...ofParents]
}

/** The second words of a parent command: `list info wait`. */
function listSubcommands({ commands }: CommandTable, { name }: CliCommand): string {
  const below = commands.filter((one) => one.name.startsWith(`${name} `))
  return below.map((one) => one.name.slice(name.length + 1)).join(' ')
}

function listNames({ topLevel }: CommandTable): string {
  return topLevel.map(({ name }) => name).join(' ')
}

/** Asks a running fleet for the names of its services. It prints nothing when no fleet runs. */
const SERVICE_NAMES_COMMAND = 'manyhost status --names 2>/dev/null'

function listOptions({ options = [], usesAdminAddress }: CliCommand): readonly CliOption[] {
  return [...options, ...(usesAdminAddress ? ADMIN_OPTIONS : [])]
}

function listFlagWords(option: CliOption): string[] {
  return option.flags.split(/[ ,]+/).filter((word) => word.startsWith('-'))
}

function takesFile({ flags }: CliOption): boolean {
  return /[<[](file|path)[>\]]/.test(flags)
}

function removeQuotes(text: string): string {
  return text.replaceAll("'", '')
}

function writeBashScript(table: CommandTable): string {
  const cases = table.topLevel.map((command) => {
    const flags = [...listOptions(command).flatMap(listFlagWords), '--help'].join(' ')
    const words = bashWords(command.args?.[0]) ?? listSubcommands(table, command)
    return `    ${command.name}) flags='${flags}'; words="${words}" ;;`
  })
  return `# manyhost completion for bash: source <(manyhost completion bash)
_manyhost_names() { ${SERVICE_NAMES_COMMAND}; }
_manyhost() {
  local cur=\${COMP_WORDS[COMP_CWORD]} flags='' words=''
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '${listNames(table)} help --help --version' -- "$cur"))
    return
  fi
  case "\${COMP_WORDS[1]} \${COMP_WORDS[2]} \${COMP_WORDS[COMP_CWORD-1]}" in
${table.commands.flatMap(bashValueCases).join('\n')}
  esac
  case \${COMP_WORDS[1]} in
    help) words='${listNames(table)}' ;;
${cases.join('\n')}
  esac
  case $cur in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$cur")) ;;
    *) COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;
  esac
}
complete -o filenames -F _manyhost manyhost
`
}

function bashWords(argument: CliArgument | undefined): string | undefined {
  if (argument?.choices) return argument.choices.join(' ')
  if (argument?.completes === 'file') return '$(compgen -f -- "$cur")'
  return argument?.completes === 'cluster' ? '$(_manyhost_names)' : undefined
}

/** What completes the values of options, by the words of the command and the word before the value. */
function bashValueCases(command: CliCommand): string[] {
  const prefix = command.name.includes(' ') ? `'${command.name} '` : `'${command.name} '*' '`
  return listOptions(command).flatMap((option) => {
    const words = option.choices ? `-W '${option.choices.join(' ')}'` : takesFile(option) && '-f'
    if (!words) return []
    const patterns = listFlagWords(option).map((word) => `${prefix}'${word}'`)
    return [`    ${patterns.join('|')}) COMPREPLY=($(compgen ${words} -- "$cur")); return ;;`]
  })
}

function writeZshScript(table: CommandTable): string {
  const list = table.topLevel.map(
    ({ name, summary }) => `    '${name}:${removeQuotes(summary).replaceAll(':', '\\:')}'`,
  )
  const cases = table.topLevel.map((command) => {
    const specs = listOptions(command).map((option) => {
      const value = /<(.*)>/.exec(option.flags)?.[1]
      const meaning = removeQuotes(option.meaning).replace(/[[\]:]/g, '')
      const values = option.choices ? `(${option.choices.join(' ')})` : '_files'
      const after = value ? `:${value}:${values}` : ''
      return listFlagWords(option)
        .map((word) => `'${word}[${meaning}]${after}'`)
        .join(' ')
    })
    const argument = zshArgument(command.args?.[0], listSubcommands(table, command))
    return `    ${command.name}) _arguments ${[...specs, argument].filter(Boolean).join(' ')} ;;`
  })
  return `#compdef manyhost
# manyhost completion for zsh: source <(manyhost completion zsh)
_manyhost_names() { ${SERVICE_NAMES_COMMAND}; }
_manyhost() {
  local -a commands
  commands=(
${list.join('\n')}
  )
  if (( CURRENT == 2 )); then _describe command commands; return; fi
  local command=$words[2]
  shift words; (( CURRENT-- ))
  case $command in
${cases.join('\n')}
  esac
}
compdef _manyhost manyhost
`
}

function zshArgument(argument: CliArgument | undefined, subcommands: string): string {
  if (argument?.choices) return `'1:choice:(${argument.choices.join(' ')})'`
  if (argument?.completes === 'file') return `'1:file:_files'`
  if (argument?.completes === 'cluster') return `'1:service:($(_manyhost_names))'`
  return subcommands && `'1:command:(${subcommands})'`
}

function writeFishScript(table: CommandTable): string {
  const rows = table.topLevel.flatMap((command) => {
    const on = `-n '__fish_seen_subcommand_from ${command.name}'`
    const options = listOptions(command).map((option) => {
      const names = listFlagWords(option).map((word) =>
        word.startsWith('--') ? `-l ${word.slice(2)}` : `-s ${word.slice(1)}`,
      )
      const values = option.choices
        ? ` -xa '${option.choices.join(' ')}'`
        : option.flags.includes('<')
          ? ' -r'
          : ''
      return `complete -c manyhost ${on} ${names.join(' ')}${values} -d '${removeQuotes(option.meaning)}'`
    })
    const { choices, completes } = command.args?.[0] ?? {}
    const words = [
      choices?.join(' ') ?? (completes === 'cluster' ? '(__manyhost_names)' : ''),
      listSubcommands(table, command),
    ]
    return [
      `complete -c manyhost -n __fish_use_subcommand -a ${command.name} -d '${removeQuotes(command.summary)}'`,
      ...options,
      ...words.filter(Boolean).map((text) => `complete -c manyhost ${on} -a '${text}'`),
      ...(completes === 'file' ? [`complete -c manyhost ${on} -F`] : []),
    ]
  })
  return `# manyhost completion for fish: manyhost completion fish | source
function __manyhost_names
  ${SERVICE_NAMES_COMMAND}
end
complete -c manyhost -f
${rows.join('\n')}
`
}
