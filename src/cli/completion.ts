/** `manyhost completion`: a script for a shell, made of the table of commands. Names of services are asked for. */
import { ALL_COMMANDS } from './all-commands.ts'
import { ADMIN_OPTIONS, type CliCommand, type CliOption, PARENT_COMMANDS } from './commands.ts'
import { CliError, EXIT } from './exit.ts'
import { write } from './terminal.ts'

const SCRIPT_WRITERS: Readonly<Record<string, () => string>> = {
  bash: writeBashScript,
  zsh: writeZshScript,
  fish: writeFishScript,
}

export async function run([shell = '']: readonly (string | undefined)[]): Promise<number> {
  const script = Object.hasOwn(SCRIPT_WRITERS, shell) ? SCRIPT_WRITERS[shell] : undefined
  if (!script) {
    throw new CliError(
      'usage',
      `expected one of ${Object.keys(SCRIPT_WRITERS).join(', ')}, got ${JSON.stringify(shell)}`,
    )
  }
  await write(script())
  return EXIT.ok.number
}

/** Commands by their first word; one that has others below it takes the options of them all. */
const TOP_LEVEL_COMMANDS: readonly CliCommand[] = [
  ...ALL_COMMANDS.filter(({ name }) => !name.includes(' ')),
  ...Object.entries(PARENT_COMMANDS).flatMap(([parent, { summary }]) => {
    const below = ALL_COMMANDS.filter(({ name }) => name.startsWith(`${parent} `))
    const [first] = below
    const options = below.flatMap((one) => one.options ?? [])
    const known = new Map(options.map((option) => [option.flags, option]))
    return first
      ? [{ ...first, name: parent, summary, args: [], options: [...known.values()] }]
      : []
  }),
]

/** The second words of a command that has others below it. */
function listSubcommands({ name }: CliCommand): string {
  const below = ALL_COMMANDS.filter((one) => one.name.startsWith(`${name} `))
  return below.map((one) => one.name.slice(name.length + 1)).join(' ')
}

/** What asks a running fleet for its names; says nothing when there is none. */
const SERVICE_NAMES_COMMAND = 'manyhost status --names 2>/dev/null'

function listOptions({ options = [], usesAdminAddress: admin }: CliCommand): readonly CliOption[] {
  return [...options, ...(admin ? ADMIN_OPTIONS : [])]
}

function listFlagWords(option: CliOption): string[] {
  return option.flags.split(/[ ,]+/).filter((word) => word.startsWith('-'))
}

function firstArgumentKind(command: CliCommand): 'file' | 'cluster' | 'shell' | undefined {
  return command.name === 'completion' ? 'shell' : command.args?.[0]?.completes
}

function removeQuotes(text: string): string {
  return text.replaceAll("'", '')
}

function writeBashScript(): string {
  const cases = TOP_LEVEL_COMMANDS.map((command) => {
    const all = [...listOptions(command).flatMap(listFlagWords), '--help'].join(' ')
    const values = {
      file: '$(compgen -f -- "$cur")',
      cluster: '$(_manyhost_names)',
      shell: 'bash zsh fish',
    }
    const kind = firstArgumentKind(command)
    return `    ${command.name}) flags='${all}'; words="${kind ? values[kind] : listSubcommands(command)}" ;;`
  })
  return `# manyhost completion for bash: source <(manyhost completion bash)
_manyhost_names() { ${SERVICE_NAMES_COMMAND}; }
_manyhost() {
  local cur=\${COMP_WORDS[COMP_CWORD]} flags='' words=''
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W '${TOP_LEVEL_COMMANDS.map(({ name }) => name).join(' ')} help --help --version' -- "$cur"))
    return
  fi
  case \${COMP_WORDS[COMP_CWORD-1]} in
    --log) COMPREPLY=($(compgen -W 'pretty json quiet' -- "$cur")); return ;;
    --token-file) COMPREPLY=($(compgen -f -- "$cur")); return ;;
  esac
  case \${COMP_WORDS[1]} in
    help) words='${TOP_LEVEL_COMMANDS.map(({ name }) => name).join(' ')}' ;;
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

function writeZshScript(): string {
  const list = TOP_LEVEL_COMMANDS.map(
    ({ name, summary }) => `    '${name}:${removeQuotes(summary).replaceAll(':', '\\:')}'`,
  )
  const cases = TOP_LEVEL_COMMANDS.map((command) => {
    const specs = listOptions(command).map((option) => {
      const value = /<(.*)>/.exec(option.flags)?.[1]
      const meaning = removeQuotes(option.meaning).replace(/[[\]:]/g, '')
      const values = option.choices ? `(${option.choices.join(' ')})` : '_files'
      const after = value ? `:${value}:${values}` : ''
      return listFlagWords(option)
        .map((word) => `'${word}[${meaning}]${after}'`)
        .join(' ')
    })
    const kind = firstArgumentKind(command)
    const argument =
      kind === 'file'
        ? `'1:file:_files'`
        : kind === 'cluster'
          ? `'1:service:($(_manyhost_names))'`
          : kind === 'shell'
            ? `'1:shell:(bash zsh fish)'`
            : listSubcommands(command) && `'1:command:(${listSubcommands(command)})'`
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

function writeFishScript(): string {
  const rows = TOP_LEVEL_COMMANDS.flatMap((command) => {
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
    const kind = firstArgumentKind(command)
    const argument =
      kind === 'cluster' ? ['(__manyhost_names)'] : kind === 'shell' ? ['bash zsh fish'] : []
    const second = listSubcommands(command)
    if (second) argument.push(second)
    const file = kind === 'file' ? [`complete -c manyhost ${on} -F`] : []
    return [
      `complete -c manyhost -n __fish_use_subcommand -a ${command.name} -d '${removeQuotes(command.summary)}'`,
      ...options,
      ...argument.map((what) => `complete -c manyhost ${on} -a '${what}'`),
      ...file,
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
