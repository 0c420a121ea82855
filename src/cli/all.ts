/** All commands, by the words that call them. Those of tasks have a table, and documentation, of their own. */
import { COMMANDS, type Command } from './commands.ts'
import { CONFIG_COMMANDS } from './settings/commands.ts'
import { TASK_COMMANDS } from './tasks/commands.ts'
import { RUN_COMMAND } from './tasks/serving.ts'

export const ALL: readonly Command[] = [
  ...COMMANDS,
  { ...RUN_COMMAND, section: RUN_COMMAND.name },
  ...TASK_COMMANDS.map(({ name, ...command }) => ({
    ...command,
    name: `tasks ${name}`,
    section: name,
  })),
  ...CONFIG_COMMANDS,
]
