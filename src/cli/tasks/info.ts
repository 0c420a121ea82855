/** `manyhost tasks info`. */
import { createReadStream } from 'node:fs'
import { describe } from '../../core/errors.ts'
import { parseJson, toJson } from '../../tasks/json.ts'
import { taskAsJson } from '../../tasks/store/row.ts'
import { CliError, TASK_EXIT } from '../exit.ts'
import { line, write } from '../terminal.ts'
import { cell, type Format, fieldsOf, one } from './print.ts'
import { askServer, type RemoteFlags, serverOf } from './remote.ts'
import { type StoreFlags, withStore } from './store.ts'

export interface OneFlags extends StoreFlags {
  readonly format?: Format
  readonly json?: boolean
  readonly yaml?: boolean
}

interface InfoFlags extends OneFlags, RemoteFlags {
  readonly extract?: string
  readonly stdout?: boolean
  readonly stderr?: boolean
  readonly perf?: boolean
}

export function formatOf({ format, json, yaml }: OneFlags): Format {
  return format ?? (json ? 'json' : yaml ? 'yaml' : 'normal')
}

export async function run(
  [id = '']: readonly (string | undefined)[],
  flags: InfoFlags,
): Promise<number> {
  const [field] = flags.extract === undefined ? [] : fieldsOf([flags.extract])
  if (serverOf(flags) !== undefined) return fromServer(id, flags, field)
  return withStore(flags, false, async (store) => {
    const task = await store.get(id)
    if (field !== undefined) await line(cell(taskAsJson(task)[field]))
    else if (flags.stdout) await copy(task.outpath, 'output', task.captured)
    else if (flags.stderr) await copy(task.errpath, 'errors', task.captured)
    else if (flags.perf) await copy(task.csvpath, 'use of resources', false)
    else await write(one(task, formatOf(flags)))
    return TASK_EXIT.ok.number
  })
}

/** The same, from a server that may be on another machine. */
async function fromServer(
  id: string,
  flags: InfoFlags,
  field: string | undefined,
): Promise<number> {
  const what = flags.stdout ? 'stdout' : flags.stderr ? 'stderr' : flags.perf ? 'csv' : undefined
  if (flags.ignorePartitions) {
    throw new CliError('usage', '--ignore-partitions is about a store, and a --server has its own')
  }
  const ask = askServer(flags)
  const path = `tasks/${encodeURIComponent(id)}`
  if (what) {
    const { body } = await ask(`${path}/${what}`)
    for await (const chunk of body) await write(chunk as Buffer)
    return TASK_EXIT.ok.number
  }
  const json = parseJson(await (await ask(path)).body.text()) as Record<string, unknown>
  if (field !== undefined) await line(cell(json[field]))
  else await write(`${toJson(json, 2)}\n`)
  return TASK_EXIT.ok.number
}

async function copy(path: string | null, what: string, isCaptured: boolean): Promise<void> {
  // It was kept, and there was nothing.
  if (path === null && isCaptured) return
  if (path === null) throw new CliError('failure', `the task's ${what} was not captured`)
  try {
    for await (const chunk of createReadStream(path)) await write(chunk as Buffer)
  } catch (error) {
    throw new CliError('failure', `the task's ${what}: ${describe(error)}`, { cause: error })
  }
}
