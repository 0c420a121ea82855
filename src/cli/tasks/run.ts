/** `manyhost run`: one command as a task; by the server of the store or of an address, else here and now. */
import { createReadStream } from 'node:fs'
import { describe } from '../../core/errors.ts'
import { sleep } from '../../core/time.ts'
import { isDead } from '../../tasks/server/life.ts'
import { storeName } from '../../tasks/store/open.ts'
import { parseTags } from '../../tasks/tags.ts'
import { type NewTask, runCluster, submitFrom, type TaskResult } from '../../tasks.ts'
import { CliError, exitOf } from '../exit.ts'
import { untilInterrupted } from '../interrupt.ts'
import { write } from '../terminal.ts'
import { exported } from './asked.ts'
import { openGround } from './ground.ts'
import { askServer, peerOf, type RemoteFlags, serverOf } from './remote.ts'
import { exitFor, type StoreFlags, storeOf, withStore } from './store.ts'
import { requestTask, shellLine } from './words.ts'

interface RunFlags extends StoreFlags, RemoteFlags {
  readonly interval?: number
  readonly tag?: readonly string[]
  readonly taskTimeout?: number
  readonly request?: boolean
  readonly fleet?: string
}

/** Between two looks at the store, in ms. */
const INTERVAL = 50

export async function run([given]: readonly unknown[], flags: RunFlags): Promise<number> {
  const words = given as readonly string[]
  try {
    const isRequest = flags.request || flags.fleet !== undefined
    const task: NewTask = {
      ...(isRequest ? requestTask(words) : { args: shellLine(words) }),
      tag: { capture: true, ...(flags.tag && parseTags(flags.tag)) },
      ...(flags.taskTimeout && { timeout: flags.taskTimeout }),
    }
    if (flags.fleet !== undefined) return await here(task, flags)
    if (serverOf(flags) !== undefined) return await byServer(task, flags)
    // Who serves the store has it waiting for him; without such, nobody would ever come.
    const code = await byStore(task, flags).catch((error) => {
      if (error instanceof NobodyServes) return undefined
      throw error
    })
    return code ?? (await here(task, flags))
  } catch (error) {
    throw exitFor(error)
  }
}

class NobodyServes extends Error {}

function isRequest({ request }: NewTask): boolean {
  return request !== undefined
}

async function byStore(task: NewTask, flags: RunFlags): Promise<number> {
  return withStore(flags, true, async (store) => {
    // One that works off a batch of its own takes nothing else. One that was killed has left its row behind, and nobody looks
    // at it before the next server.
    const isServed = (await store.servers()).some(({ id, isOpen }) => isOpen && !isDead(id))
    if (!isServed) throw new NobodyServes()
    const { signal, code } = untilInterrupted('tasks')
    const own = { ...task, cwd: process.cwd(), env: exported(process.env) }
    const [id = ''] = await store.add([isRequest(own) ? task : own])
    for (let found = await store.get(id); ; found = await store.get(found.nextId ?? found.id)) {
      if (found.nextId === null && found.completionTime !== null) {
        if (found.outpath !== null) await copy(found.outpath, process.stdout)
        if (found.errpath !== null) await copy(found.errpath, process.stderr)
        return exitOf(found.exitStatus ?? 1)
      }
      await sleep(flags.interval ?? INTERVAL, signal).catch(() => {})
      if (!signal.aborted) continue
      await store.cancel({ where: [`id == ${found.id}`] })
      return code()
    }
  })
}

async function byServer(task: NewTask, flags: RunFlags): Promise<number> {
  const { signal, code } = untilInterrupted('tasks')
  const ask = askServer(flags)
  const server = serverOf(flags) as string
  const env = exported(process.env)
  const { ids } = await submitFrom([task], { ...peerOf({ ...flags, server }), env })
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
      return exitOf(Number(found.exit_status))
    }
    if (!signal.aborted) continue
    await ask(`tasks/${id}`, 'DELETE').catch(() => {})
    return code()
  }
}

/** Nobody serves the store, or services of a file are meant: this one task, which is kept nowhere. */
async function here(task: NewTask, flags: RunFlags): Promise<number> {
  const { signal, code } = untilInterrupted('tasks')
  const say = (text: string): void => void process.stderr.write(`manyhost: ${text}\n`)
  const { options, close } = await openGround({ ...(flags.fleet && { fleet: flags.fleet }) }, say)
  try {
    const started = runCluster([task], {
      ...options,
      env: exported(process.env),
      inMemory: true,
      signalWait: 5_000,
      signal,
      onOutput: (_task, stream, chunk) => write(chunk, process[stream]),
      onProblem: say,
    })
    let result: TaskResult | undefined
    for await (const one of started) result = one
    if (signal.aborted) return code()
    if (!result) {
      throw new CliError(
        'failure',
        `it was not run (no server serves ${storeName(storeOf(flags))})`,
      )
    }
    if (result.message) say(result.message)
    return exitOf(result.exitStatus)
  } finally {
    await close()
  }
}

async function copy(path: string, to: NodeJS.WriteStream): Promise<void> {
  try {
    for await (const chunk of createReadStream(path)) await write(chunk as Buffer, to)
  } catch (error) {
    throw new CliError(
      'failure',
      `what it wrote is at ${path} of the server's machine: ${describe(error)}`,
      { cause: error },
    )
  }
}
