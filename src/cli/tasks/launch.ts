/**
 * Runners that a launcher starts, `srun` or `mpirun` say: any number of agents, on any machines, that dial in here. Each gets
 * one runner. With a number of runners, or autoscaling, each start launches once more.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { type AgentsProvider, agents } from '../../../providers/agent/index.ts'
import { describeError } from '../../core/errors.ts'
import { compiledPath } from '../../core/paths.ts'
import type { Provider } from '../../core/provider.ts'
import { resolveWithin } from '../../core/time.ts'
import { inheritedEnvironment } from '../../posix/environment.ts'
import type { SessionCore } from '../../session/session.ts'
import { RUNNERS_URL } from '../../tasks/server/options.ts'
import { CliError } from '../exit.ts'
import { toTaskCliError } from './store.ts'
import type { TaskEnvironment, TaskEnvironmentFlags } from './task-environment.ts'

/** A launched agent that this program has no use for ends by itself. */
const IDLE_TIMEOUT = '30m'
const IDLE_TIMEOUT_PER_LAUNCH = '10s'

/**
 * So does one that has lost this program, in ms: the key is of this run alone, so nobody else will ever take it on. Long
 * enough for a network that comes back.
 */
const HUB_TIMEOUT_MS = 60_000

/** From TERM to KILL of what was launched, in ms. */
const KILL_DELAY_MS = 15_000

/** What one MPI, which does not hand the environment on by itself, is asked to hand on. */
const OPEN_MPI_ENVIRONMENT = { OMPI_MCA_mca_base_env_list: 'MANYHOST_AGENT_KEY' }

/** @throws CliError */
export async function launchAgents(
  flags: TaskEnvironmentFlags,
  session: SessionCore,
  say: (text: string) => void,
): Promise<Pick<TaskEnvironment, 'options' | 'failed'>> {
  const words = (flags.launcher ?? 'mpirun').split(/\s+/).filter((word) => word !== '')
  if (words.length === 0) throw new CliError('usage', '--launcher is a command such as srun -N 4')
  const isEach = flags.initSize !== undefined || flags.autoscaling !== undefined
  const key = randomBytes(24).toString('hex')
  const { hub, dial } = await openAgentHub(flags, key)
  const children = new Set<ChildProcess>()
  let fail!: (error: Error) => void
  const failed = new Promise<never>((_, reject) => {
    fail = reject
  })
  failed.catch(() => {})
  let isClosed = false

  function begin(): void {
    const [command = '', ...before] = words
    const args = [
      process.execPath,
      compiledPath('cli/main.js'),
      'agent',
      '--connect',
      ...dial,
      '--max-instances',
      '1',
    ]
    args.push('--timeout', isEach ? IDLE_TIMEOUT_PER_LAUNCH : IDLE_TIMEOUT)
    args.push('--hub-timeout', `${flags.hubTimeout ?? HUB_TIMEOUT_MS}ms`)
    const child = spawn(command, [...before, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own: a script that launches hands no signal on.
      detached: true,
      // Never in the arguments, which every user can read.
      env: { ...inheritedEnvironment(), ...OPEN_MPI_ENVIRONMENT, MANYHOST_AGENT_KEY: key },
    })
    children.add(child)
    let text = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        text = `${text}${chunk}`.slice(-2_000)
      })
    }
    const ended = (how: string): void => {
      if (!children.delete(child) || isClosed) return
      // Open MPI draws a frame around what it says.
      const last =
        text
          .split('\n')
          .filter((line) => /\w/.test(line))
          .at(-1) ?? ''
      const message = `${words.join(' ')} ${how}${last ? `: ${last}` : ''}`
      if (isEach) return how === 'ended with 0' ? undefined : say(message)
      fail(new CliError('failure', `${message}; nothing is left to run tasks`))
    }
    child.once('error', (error) => ended(`cannot be started: ${describeError(error)}`))
    child.once('close', (code, signal) => ended(`ended with ${code ?? signal}`))
  }

  // However this process ends, as far as it can know.
  const kill = (signal: NodeJS.Signals): void => {
    for (const { pid } of children) {
      try {
        if (pid !== undefined) process.kill(-pid, signal)
      } catch {
        // It is gone already.
      }
    }
  }
  const onExit = (): void => kill('SIGTERM')
  process.on('exit', onExit)

  const provider: Provider = {
    name: 'launcher',
    capabilities: hub.capabilities,
    start: (spec, how) => {
      if (isEach) begin()
      return hub.start(spec, how)
    },
    async close() {
      isClosed = true
      await hub.close?.()
      const gone = Promise.all([...children].map((child) => once(child, 'close')))
      // Launchers hand it on, and agents that have lost their hub end at once.
      kill('SIGTERM')
      if ((await resolveWithin(KILL_DELAY_MS, gone)) === undefined) kill('SIGKILL')
      process.off('exit', onExit)
    },
  }
  if (isEach) return { options: { provider } }
  try {
    await waitForFirstAgent(hub, failed, begin)
  } catch (error) {
    await provider.close?.()
    throw error
  }
  return { options: { provider, runners: followAgentCount(hub, session) }, failed }
}

/** One runner for each agent that is there, from now on. Answers how many there are. */
function followAgentCount(hub: AgentsProvider, session: SessionCore): number {
  const count = (): number => Math.max(1, hub.agents.length)
  let size = count()
  const follow = (): void => {
    const isThere = session.clusters.some(({ url }) => url.startsWith(RUNNERS_URL))
    if (!isThere || count() === size) return
    size = count()
    session.setSize(RUNNERS_URL, size)
  }
  hub.on('agent', follow)
  // Those that came before there was work.
  session.on('instance', follow)
  return size
}

/** Launches, and resolves when the first agent has come. */
async function waitForFirstAgent(hub: AgentsProvider, failed: Promise<never>, begin: () => void) {
  const came = new Promise<void>((resolve) => {
    const off = hub.on('agent', ({ change }) => {
      if (change !== 'came') return
      off()
      resolve()
    })
  })
  begin()
  await Promise.race([came, failed])
}

/** Where launched agents dial in, and what they need to know for that. */
async function openAgentHub(
  { bind = '127.0.0.1:0', insecure, tlsCert, tlsKey }: TaskEnvironmentFlags,
  key: string,
): Promise<{ hub: AgentsProvider; dial: readonly string[] }> {
  try {
    const hub = agents({
      listen: bind,
      key,
      ...(insecure && { insecure }),
      ...(tlsCert !== undefined && { certFile: tlsCert }),
      ...(tlsKey !== undefined && { certKeyFile: tlsKey }),
    })
    const address = await hub.address()
    const dial = address.replace(/^(0\.0\.0\.0|\[::\]):/, `${hostname()}:`)
    const pin =
      tlsCert === undefined
        ? insecure
          ? ['--insecure']
          : []
        : ['--fingerprint', new X509Certificate(readFileSync(tlsCert)).fingerprint256]
    return { hub, dial: [dial, ...pin] }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') {
      throw new CliError('listen', describeError(error), { cause: error })
    }
    throw toTaskCliError(error)
  }
}
