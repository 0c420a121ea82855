/**
 * `manyhost run`: runs one command as a task.
 *
 * 1. With `--fleet` it runs here, beside the services of the file.
 * 2. With `--server` the task server of that address runs it.
 * 3. Else the server of the store runs it, if there is one.
 * 4. Else it runs here.
 */
import { createReadStream } from 'node:fs'
import { describeError } from '../../core/errors.ts'
import { sleep } from '../../core/time.ts'
import { isServerProcessDead } from '../../tasks/server/task-server-lease.ts'
import { storeName } from '../../tasks/store/open.ts'
import { parseTags } from '../../tasks/text/tags.ts'
import { type NewTask, runCluster, submitFrom, type TaskResult } from '../../tasks.ts'
import { CliError, toExitStatus } from '../exit.ts'
import { abortOnInterrupt } from '../interrupt.ts'
import { write } from '../terminal.ts'
import { toRequestTask, toShellLine } from './command-words.ts'
import { openTaskEnvironment } from './open-task-environment.ts'
import { exportedVariables } from './run-options.ts'
import { chooseStore, type StoreFlags, toTaskCliError, withStore } from './store.ts'
import {
  checkServerUrl,
  connectTaskServer,
  type TaskServerFlags,
  toPeerOptions,
} from './task-server.ts'

interface RunFlags extends StoreFlags, TaskServerFlags {
  readonly interval?: number
  readonly tag?: readonly string[]
  readonly taskTimeout?: number
  readonly request?: boolean
  readonly fleet?: string
}

/** How often the store is polled. */
const POLL_INTERVAL_MS = 50

export async function run([given]: readonly unknown[], flags: RunFlags): Promise<number> {
  const words = given as readonly string[]
  try {
    const isRequest = flags.request || flags.fleet !== undefined
    const task: NewTask = {
      ...(isRequest ? toRequestTask(words) : { args: toShellLine(words) }),
      tag: { capture: true, ...(flags.tag && parseTags(flags.tag)) },
      ...(flags.taskTimeout && { timeout: flags.taskTimeout }),
    }
    if (flags.fleet !== undefined) return await runHere(task, flags)
    if (checkServerUrl(flags) !== undefined) return await runByServer(task, flags)
    // Without a server of the store nobody would ever run the task.
    const code = await runByStore(task, flags).catch((error) => {
      if (error instanceof NoTaskServerError) return undefined
      throw error
    })
    return code ?? (await runHere(task, flags))
  } catch (error) {
    throw toTaskCliError(error)
  }
}

class NoTaskServerError extends Error {}

function isRequestTask({ request }: NewTask): boolean {
  return request !== undefined
}

async function runByStore(task: NewTask, flags: RunFlags): Promise<number> {
  return withStore(flags, true, async (store) => {
    // A server that is not open runs only a batch of its own. The row of a killed server stays until the next server removes
    // it, so the process is checked, too.
    const isServed = (await store.servers()).some(
      ({ id, isOpen }) => isOpen && !isServerProcessDead(id),
    )
    if (!isServed) throw new NoTaskServerError()
    const { signal, code } = abortOnInterrupt('tasks')
    const own = { ...task, cwd: process.cwd(), env: exportedVariables(process.env) }
    const [id = ''] = await store.add([isRequestTask(own) ? task : own])
    for (let found = await store.get(id); ; found = await store.get(found.nextId ?? found.id)) {
      if (found.nextId === null && found.completionTime !== null) {
        if (found.outpath !== null) await printOutputFile(found.outpath, process.stdout)
        if (found.errpath !== null) await printOutputFile(found.errpath, process.stderr)
        return toExitStatus(found.exitStatus ?? 1)
      }
      await sleep(flags.interval ?? POLL_INTERVAL_MS, signal).catch(() => {})
      if (!signal.aborted) continue
      await store.cancel({ where: [`id == ${found.id}`] })
      return code()
    }
  })
}

async function runByServer(task: NewTask, flags: RunFlags): Promise<number> {
  const { signal, code } = abortOnInterrupt('tasks')
  const ask = connectTaskServer(flags)
  const server = checkServerUrl(flags) as string
  const env = exportedVariables(process.env)
  const { ids } = await submitFrom([task], { ...toPeerOptions({ ...flags, server }), env })
  let id = ids[0] as string
  for (;;) {
    const answer = await ask(`tasks/${id}?wait=1000`)
    const found = (await answer.body.json()) as Record<string, unknown>
    id = found.id as string
    if (found.is_over) {
      for (const [name, stream] of [
        ['outpath', 'stdout'],
        ['errpath', 'stderr'],
      ] as const) {
        if (found[name] === null) continue
        const { body } = await ask(`tasks/${id}/${stream}`)
        for await (const chunk of body) await write(chunk as Buffer, process[stream])
      }
      return toExitStatus(Number(found.exit_status))
    }
    if (!signal.aborted) continue
    await ask(`tasks/${id}`, 'DELETE').catch(() => {})
    return code()
  }
}

/** Runs the task in this process. No store keeps it. */
async function runHere(task: NewTask, flags: RunFlags): Promise<number> {
  const { signal, code } = abortOnInterrupt('tasks')
  const report = (text: string): void => void process.stderr.write(`manyhost: ${text}\n`)
  const { options, close } = await openTaskEnvironment(
    { ...(flags.fleet && { fleet: flags.fleet }) },
    report,
  )
  try {
    const started = runCluster([task], {
      ...options,
      env: exportedVariables(process.env),
      inMemory: true,
      signalWait: 5_000,
      signal,
      onOutput: (_task, stream, chunk) => write(chunk, process[stream]),
      onProblem: report,
    })
    let result: TaskResult | undefined
    for await (const one of started) result = one
    if (signal.aborted) return code()
    if (!result) {
      throw new CliError(
        'failure',
        `the task was not run: no server serves ${storeName(chooseStore(flags))}`,
      )
    }
    if (result.message) report(result.message)
    return toExitStatus(result.exitStatus)
  } finally {
    await close()
  }
}

async function printOutputFile(path: string, to: NodeJS.WriteStream): Promise<void> {
  try {
    for await (const chunk of createReadStream(path)) await write(chunk as Buffer, to)
  } catch (error) {
    throw new CliError(
      'failure',
      `cannot read the output ${path}, which is on the machine of the server: ${describeError(error)}`,
      { cause: error },
    )
  }
}
