/** A runner in this process, behind real HTTP, with real shells. */
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { request } from 'undici'
import { onTestFinished } from 'vitest'
import type { RunnerOptions } from '../../src/tasks/runner/options.ts'
import {
  type BundleOptions,
  formatBundleLines,
  type RunnerMessage,
  type RunOutcome,
  type RunTask,
  readRunnerMessages,
} from '../../src/tasks/runner/protocol.ts'
import { Runner } from '../../src/tasks/runner/runner.ts'
import { createRunnerServer } from '../../src/tasks/runner/runner-server.ts'
import { RUNNER_PROGRAM } from '../../src/tasks/server/runner-service.ts'

export const TOKEN = 'a-token-of-the-tests'
/** Not the shell of a launcher, which has it among its arguments. */
const AGENT = /^\S*node \S+main\.js agent /

const authorization = `Bearer ${TOKEN}`

export interface Answered {
  /** By task. */
  readonly outcomes: Map<string, RunOutcome>
  readonly stdout: Map<string, string>
  readonly stderr: Map<string, string>
  readonly csv: Map<string, string>
  readonly messages: RunnerMessage[]
}

export async function startRunner(options: RunnerOptions = {}, env = process.env) {
  const runner = new Runner({ numTasks: 2, signalWait: 300, ...options }, env)
  const { server, close } = createRunnerServer(runner, { token: TOKEN })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  onTestFinished(async () => {
    await runner.close()
    await close()
  })
  return { runner, url, ...clientOf(url) }
}

export function clientOf(url: string) {
  const post = async (lines: string, signal?: AbortSignal) => {
    const headers = { authorization }
    return request(`${url}/tasks`, { method: 'POST', headers, body: lines, signal: signal ?? null })
  }
  const start = async (
    tasks: readonly RunTask[],
    bundle: BundleOptions = {},
    signal?: AbortSignal,
  ) => {
    const { body } = await post([...formatBundleLines(bundle, tasks)].join(''), signal)
    return readRunnerMessages(body)
  }
  return {
    post,
    start,
    run: async (commands: readonly (string | Partial<RunTask>)[], bundle: BundleOptions = {}) =>
      collect(await start(commands.map(taskOf), bundle), commands.map(taskOf)),
    cancel: async (id: string, query = '') => {
      const path = `${url}/tasks/${id}${query}`
      const { statusCode, body } = await request(path, {
        method: 'DELETE',
        headers: { authorization },
      })
      await body.dump()
      return statusCode
    },
  }
}

/** Named t0, t1, ... unless it has an id. */
export function taskOf(given: string | Partial<RunTask>, index = 0): RunTask {
  const own = typeof given === 'string' ? { args: given } : given
  return { id: `t${index}`, args: '', fence: 1, ...own }
}

export async function collect(
  answer: AsyncIterable<RunnerMessage>,
  tasks: readonly RunTask[],
): Promise<Answered> {
  const chunks = { stdout: new Map(), stderr: new Map(), csv: new Map() }
  const outcomes = new Map<string, RunOutcome>()
  const messages: RunnerMessage[] = []
  for await (const message of answer) {
    messages.push(message)
    if (message.is === 'outcomes') for (const one of message.outcomes) outcomes.set(one.id, one)
    if (message.is !== 'stdout' && message.is !== 'stderr' && message.is !== 'csv') continue
    const id = tasks[message.index]?.id ?? ''
    const kept = chunks[message.is].get(id) ?? []
    chunks[message.is].set(id, [...kept, message.data])
  }
  const texts = (map: Map<string, Buffer[]>) =>
    new Map([...map].map(([id, all]) => [id, Buffer.concat(all).toString()]))
  const [stdout, stderr, csv] = [texts(chunks.stdout), texts(chunks.stderr), texts(chunks.csv)]
  return { outcomes, stdout, stderr, csv, messages }
}

/** Living processes with this in their environment. */
export function pidsWith(text: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        if (/^\d+ \(.*\) [ZX] /s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))) return false
        return readFileSync(`/proc/${pid}/environ`, 'utf8').includes(text)
      } catch {
        return false
      }
    })
    .map(Number)
}

let marks = 0

/** A runner's program for the option `runner`, and what its processes can be told by. */
export function marked() {
  const mark = `MANYHOST_MARK=runner-${process.pid}-${++marks}`
  return { mark, runner: ['env', mark, process.execPath, RUNNER_PROGRAM] }
}

/** Runners with this in their environment, so that they can be told from those of other tests. */
export function runnersOf(mark: string): number[] {
  return pidsWith(mark).filter((pid) => commandOf(pid).includes('runner/main.js'))
}

/** Agents with this in their environment. */
export function agentsOf(mark: string): number[] {
  return pidsWith(mark).filter((pid) => AGENT.test(commandOf(pid)))
}

/** Its command line; nothing of one that is gone. */
function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
  } catch {
    return ''
  }
}
