/** `manyhost tasks info`: prints one task, or its output. */
import { createReadStream } from 'node:fs'
import { describeError } from '../../core/errors.ts'
import { taskToJson } from '../../tasks/store/row.ts'
import { parseJson, toJson } from '../../tasks/text/exact-json.ts'
import { CliError, TASK_EXIT } from '../exit.ts'
import { write, writeLine } from '../terminal.ts'
import { checkFields, formatCell, formatTask, type TaskFormat } from './format-tasks.ts'
import { type StoreFlags, withStore } from './store.ts'
import { checkServerUrl, connectTaskServer, type TaskServerFlags } from './task-server.ts'

export interface OneTaskFlags extends StoreFlags {
  readonly format?: TaskFormat
  readonly json?: boolean
  readonly yaml?: boolean
}

interface InfoFlags extends OneTaskFlags, TaskServerFlags {
  readonly extract?: string
  readonly stdout?: boolean
  readonly stderr?: boolean
  readonly perf?: boolean
}

export function chooseFormat({ format, json, yaml }: OneTaskFlags): TaskFormat {
  return format ?? (json ? 'json' : yaml ? 'yaml' : 'normal')
}

export async function run(
  [id = '']: readonly (string | undefined)[],
  flags: InfoFlags,
): Promise<number> {
  const [field] = flags.extract === undefined ? [] : checkFields([flags.extract])
  if (checkServerUrl(flags) !== undefined) return printFromServer(id, flags, field)
  return withStore(flags, false, async (store) => {
    const task = await store.get(id)
    if (field !== undefined) await writeLine(formatCell(taskToJson(task)[field]))
    else if (flags.stdout) await printCapturedFile(task.outpath, 'output', task.captured)
    else if (flags.stderr) await printCapturedFile(task.errpath, 'errors', task.captured)
    else if (flags.perf) await printCapturedFile(task.csvpath, 'use of resources', false)
    else await write(formatTask(task, chooseFormat(flags)))
    return TASK_EXIT.ok.number
  })
}

/** Prints the same from a task server, which can be on another machine. */
async function printFromServer(
  id: string,
  flags: InfoFlags,
  field: string | undefined,
): Promise<number> {
  const what = flags.stdout ? 'stdout' : flags.stderr ? 'stderr' : flags.perf ? 'csv' : undefined
  if (flags.ignorePartitions) {
    throw new CliError('usage', '--ignore-partitions applies to a store, not to a --server')
  }
  const ask = connectTaskServer(flags)
  const path = `tasks/${encodeURIComponent(id)}`
  if (what) {
    const { body } = await ask(`${path}/${what}`)
    for await (const chunk of body) await write(chunk as Buffer)
    return TASK_EXIT.ok.number
  }
  const json = parseJson(await (await ask(path)).body.text()) as Record<string, unknown>
  if (field !== undefined) await writeLine(formatCell(json[field]))
  else await write(`${toJson(json, 2)}\n`)
  return TASK_EXIT.ok.number
}

async function printCapturedFile(
  path: string | null,
  what: string,
  isCaptured: boolean,
): Promise<void> {
  // The output was captured, and it is empty.
  if (path === null && isCaptured) return
  if (path === null) throw new CliError('failure', `the task's ${what} was not captured`)
  try {
    for await (const chunk of createReadStream(path)) await write(chunk as Buffer)
  } catch (error) {
    throw new CliError('failure', `the task's ${what}: ${describeError(error)}`, { cause: error })
  }
}
