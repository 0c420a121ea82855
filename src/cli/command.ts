/** The form of the table of commands: a command, its arguments and its options. */
import type { UnreadRule } from './output-readers.ts'

/** Runs a command. Resolves with the exit code of the process. */
export type RunCommand = (args: readonly (string | undefined)[], options: never) => Promise<number>

export interface CliArgument {
  /** `<needed>`, `[optional]`, or `[many...]`. */
  readonly name: string
  readonly meaning: string
  /** The only values that the argument can have. */
  readonly choices?: readonly string[]
  /** What the shell completes the argument with, where it has no `choices`. */
  readonly completes?: 'file' | 'cluster'
}

/** A command as the table of commands has it. Its code is loaded only when the command is run. */
export interface CliCommand {
  /** `serve`, or with its parent command: `feed publish`. */
  readonly name: string
  readonly args?: readonly CliArgument[]
  readonly summary: string
  readonly group: 'Batch' | 'Serve' | 'Look' | 'Steer' | 'Feed' | 'Shell'
  readonly options?: readonly CliOption[]
  /** Options of HyperShell that this command refuses, with advice on what to write instead. */
  readonly replacedOptions?: readonly ReplacedOption[]
  /** The section of the settings files that holds defaults for the options of this command. */
  readonly settingsSection?: string
  /** Whether the command calls the admin API. Such a command also has `ADMIN_OPTIONS`. */
  readonly usesAdminAddress?: boolean
  /** What happens to the command when nobody reads its output any more. @default 'goOn' */
  readonly whenUnread?: UnreadRule | ((options: Readonly<Record<string, unknown>>) => UnreadRule)
  readonly examples: readonly (readonly [line: string, meaning: string])[]
  readonly load: () => Promise<{ readonly run: RunCommand }>
}

/** An option of HyperShell that has no counterpart here. */
export interface ReplacedOption {
  readonly flags: string
  /** Why it is refused, and what to write: `give --server http://HOST:PORT`. Without advice the option has no effect. */
  readonly advice?: string
}

export interface CliOption {
  /** As commander reads it. With `<word...>` the option takes all words that follow, up to the next option or `--`. */
  readonly flags: string
  /** Other names of the option, which the help does not show: `--num-threads`. */
  readonly aliases?: readonly string[]
  readonly meaning: string
  readonly choices?: readonly string[]
  readonly defaultValue?: string
  /** Whether the option can be given more than once. */
  readonly isRepeatable?: boolean
  /** Parses the value. @throws Error with what was expected */
  readonly parse?: (value: string) => unknown
  /** The option is about one run of the command, so a settings file cannot hold a default for it. */
  readonly commandLineOnly?: boolean
  /** An environment variable that sets the option, beside the variable of its settings section. */
  readonly env?: string
  /** Says why a value is a secret, which must not be where every user of this machine can read it. */
  readonly exposureReason?: (value: string) => string | undefined
}

/** Marks options as ones that a settings file cannot hold a default for. */
export function markCommandLineOnly(options: readonly CliOption[]): readonly CliOption[] {
  return options.map((option) => ({ ...option, commandLineOnly: true }))
}

export const ADMIN_OPTIONS: readonly CliOption[] = [
  { flags: '--admin <url>', meaning: 'admin address (env MANYHOST_ADMIN)' },
  {
    flags: '--token-file <file>',
    meaning: 'file with the token for the admin address (env MANYHOST_TOKEN has the token itself)',
  },
]
