/** A hub and agents for tests: agents in this process, and in processes of their own that can be killed. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  type AgentOptions,
  type AgentsOptions,
  type AgentsProvider,
  agents,
  runAgent,
} from '../../../providers/agent/index.ts'
import { waitUntil } from '../../help.ts'
import { buildProviders } from '../process-help.ts'

export const KEY = 'a key of this very test'

/** Leases that do not end on a busy machine. A test of their end gives shorter ones. */
const LEASES = { beat: 200, evictAfter: 60_000, returnWithin: 60_000 } as const

export function openTestAgents(options: Partial<AgentsOptions> = {}): AgentsProvider {
  return agents({ listen: '127.0.0.1:0', key: KEY, ...LEASES, ...options })
}

export interface LocalAgent {
  /** Resolves when it has ended. */
  readonly ended: Promise<void>
  end(): Promise<void>
}

/** An agent in this process. */
export function startLocalAgent(address: string, options: Partial<AgentOptions> = {}): LocalAgent {
  const over = new AbortController()
  const ended = runAgent({
    address,
    key: KEY,
    maxInstances: 4,
    signal: over.signal,
    drainTimeout: 300,
    maxDelay: 500,
    ...options,
  })
  ended.catch(() => {})
  return {
    ended,
    async end() {
      over.abort(new Error('the test is over'))
      await ended.catch(() => {})
    },
  }
}

let built: Promise<string> | undefined

/** The command line as JavaScript, built once for each test file. */
export function buildCommandLine(): Promise<string> {
  built ??= buildProviders().then((folder) => {
    writeFileSync(join(folder, 'package.json'), '{"type":"module","version":"0.0.0"}')
    return folder
  })
  return built
}

export async function removeBuild(): Promise<void> {
  if (built) rmSync(await built, { recursive: true, force: true })
  built = undefined
}

export interface AgentProcess {
  readonly child: ChildProcess
  readonly pid: number
  /** All that it has printed. */
  readonly output: () => string
  signal(name: NodeJS.Signals): void
  /** Resolves with how it ended. */
  readonly exit: Promise<number | NodeJS.Signals | null>
}

/** `manyhost agent` in a process of its own. */
export async function spawnAgent(address: string, ...args: string[]): Promise<AgentProcess> {
  const folder = await buildCommandLine()
  const child = spawn(
    process.execPath,
    [join(folder, 'src/cli/main.js'), 'agent', '--connect', address, ...args],
    { env: { ...process.env, MANYHOST_AGENT_KEY: KEY }, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  let text = ''
  const take = (chunk: Buffer): void => {
    text += chunk
  }
  child.stdout.on('data', take)
  child.stderr.on('data', take)
  const exit = once(child, 'exit').then(([code, signal]) => code ?? signal)
  return {
    child,
    pid: child.pid as number,
    output: () => text,
    signal: (name) => void child.kill(name),
    exit,
  }
}

export async function waitForAgents(provider: AgentsProvider, count = 1): Promise<void> {
  await waitUntil(
    () => provider.agents.filter(({ state }) => state === 'up').length === count,
    `${count} agents are up`,
  )
}
