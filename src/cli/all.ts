/** All commands, by the words that call them. Those of tasks have a table, and documentation, of their own. */
import { COMMANDS, type Command } from './commands.ts'
import { TASK_COMMANDS } from './tasks/commands.ts'
import { RUN_COMMAND } from './tasks/serving.ts'

export const ALL: readonly Command[] = [
  ...COMMANDS,
  RUN_COMMAND,
  ...TASK_COMMANDS.map((command) => ({ ...command, name: `tasks ${command.name}` })),
]
