/** All commands, in the order of the help. The commands of tasks have a table, and documentation, of their own. */
import type { CliCommand } from './command.ts'
import { COMMANDS, PARENT_COMMANDS } from './commands.ts'
import { CONFIG_COMMANDS } from './settings/commands.ts'
import { TASK_COMMANDS } from './tasks/commands.ts'
import { RUN_COMMAND } from './tasks/serving-commands.ts'

const SHELLS = ['bash', 'zsh', 'fish'] as const

/** It stands here because its script is made of this very table, which it gets as an argument. */
const COMPLETION_COMMAND: CliCommand = {
  name: 'completion',
  group: 'Shell',
  whenUnread: 'end',
  args: [{ name: '<shell>', meaning: 'bash, zsh or fish', choices: SHELLS }],
  summary: 'print a script that completes commands in a shell',
  examples: [
    ['source <(manyhost completion bash)', 'in ~/.bashrc; the same with zsh in ~/.zshrc'],
    ['manyhost completion fish | source', 'in ~/.config/fish/config.fish'],
  ],
  load: async () => {
    const { printCompletion } = await import('./completion.ts')
    return { run: ([shell]) => printCompletion(shell, ALL_COMMANDS, PARENT_COMMANDS) }
  },
}

export const ALL_COMMANDS: readonly CliCommand[] = [
  ...COMMANDS,
  COMPLETION_COMMAND,
  { ...RUN_COMMAND, settingsSection: RUN_COMMAND.name },
  ...TASK_COMMANDS.map(
    ({ name, ...command }): CliCommand => ({
      ...command,
      name: `tasks ${name}`,
      settingsSection: name,
    }),
  ),
  ...CONFIG_COMMANDS,
]
