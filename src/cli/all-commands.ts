/** All commands, by the words that call them. Those of tasks have a table, and documentation, of their own. */
import { type CliCommand, COMMANDS } from './commands.ts'
import { CONFIG_COMMANDS } from './settings/commands.ts'
import { TASK_COMMANDS } from './tasks/commands.ts'
import { RUN_COMMAND } from './tasks/serving-commands.ts'

export const ALL_COMMANDS: readonly CliCommand[] = [
  ...COMMANDS,
  { ...RUN_COMMAND, settingsSection: RUN_COMMAND.name },
  ...TASK_COMMANDS.map(({ name, ...command }) => ({
    ...command,
    name: `tasks ${name}`,
    section: name,
  })),
  ...CONFIG_COMMANDS,
]
