/**
 * Runners on the agents that a launcher such as `srun` or `mpirun` starts. A launcher starts any number of agents on any
 * machines, and they connect to this program. Each agent gets one runner. There are two ways to launch:
 *
 * 1. By default the launcher runs once, and there are as many runners as agents.
 * 2. With a number of runners (`--init-size`) or autoscaling, each start of a runner runs the launcher.
 */
import { randomBytes, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { type AgentsProvider, agents } from '../../../providers/agent/index.ts'
import { deferred } from '../../core/deferred.ts'
import { compiledPath } from '../../core/paths.ts'
import type { Provider } from '../../core/provider.ts'
import type { SessionCore } from '../../session/session.ts'
import { RUNNERS_URL } from '../../tasks/server/options.ts'
import { CliError } from '../exit.ts'
import { LaunchedProcesses } from './launched-processes.ts'
import { toTaskCliError } from './store.ts'
import type { ReportLine, TaskEnvironment, TaskEnvironmentFlags } from './task-environment.ts'

/** A launched agent without an instance ends by itself after this time. */
const IDLE_TIMEOUT = '30m'
const IDLE_TIMEOUT_PER_LAUNCH = '10s'

/**
 * A launched agent that has lost this program ends after this time: no other program has the key of this run. The time is
 * long enough for a network that comes back.
 */
const HUB_TIMEOUT_MS = 60_000

/** @throws CliError */
export async function launchAgents(
  flags: TaskEnvironmentFlags,
  session: SessionCore,
  report: ReportLine,
): Promise<Pick<TaskEnvironment, 'options' | 'failed'>> {
  const launcher = (flags.launcher ?? 'mpirun').split(/\s+/).filter((word) => word !== '')
  if (launcher.length === 0) {
    throw new CliError('usage', '--launcher: expected a command such as srun -N 4')
  }
  const isLaunchedPerStart = flags.initSize !== undefined || flags.autoscaling !== undefined
  const key = randomBytes(24).toString('hex')
  const { hub, connectFlags } = await openAgentHub(flags, key)
  const { promise: failed, reject: fail } = deferred<never>()
  failed.catch(() => {})
  const agent = agentCommand(connectFlags, isLaunchedPerStart, flags.hubTimeout)
  const processes = new LaunchedProcesses(launcher, agent, key, ({ message, isSuccess }) => {
    if (!isLaunchedPerStart) {
      fail(new CliError('failure', `${message}; no process is left that could run tasks`))
    } else if (!isSuccess) report(message)
  })
  const provider: Provider = {
    name: 'launcher',
    capabilities: hub.capabilities,
    start: (spec, how) => {
      if (isLaunchedPerStart) processes.start()
      return hub.start(spec, how)
    },
    async close() {
      processes.ignoreExits()
      await hub.close?.()
      await processes.close()
    },
  }
  if (isLaunchedPerStart) return { options: { provider } }
  try {
    const firstAgent = waitForFirstAgent(hub)
    processes.start()
    await Promise.race([firstAgent, failed])
  } catch (error) {
    await provider.close?.()
    throw error
  }
  return { options: { provider, runners: followAgentCount(hub, session) }, failed }
}

/** The words of the command that each launched process runs. */
function agentCommand(
  connectFlags: readonly string[],
  isLaunchedPerStart: boolean,
  hubTimeoutMs = HUB_TIMEOUT_MS,
): string[] {
  const program = [process.execPath, compiledPath('cli/main.js'), 'agent']
  const idleTimeout = isLaunchedPerStart ? IDLE_TIMEOUT_PER_LAUNCH : IDLE_TIMEOUT
  return [
    ...program,
    ...['--connect', ...connectFlags],
    ...['--max-instances', '1'],
    ...['--timeout', idleTimeout],
    ...['--hub-timeout', `${hubTimeoutMs}ms`],
  ]
}

/** Keeps one runner for each connected agent from now on. Answers the number of runners at first. */
function followAgentCount(hub: AgentsProvider, session: SessionCore): number {
  const count = (): number => Math.max(1, hub.agents.length)
  let size = count()
  const follow = (): void => {
    const isRegistered = session.clusters.some(({ url }) => url.startsWith(RUNNERS_URL))
    if (!isRegistered || count() === size) return
    size = count()
    session.setSize(RUNNERS_URL, size)
  }
  hub.on('agent', follow)
  // Agents can connect before the service of the runners is registered.
  session.on('instance', follow)
  return size
}

function waitForFirstAgent(hub: AgentsProvider): Promise<void> {
  return new Promise((resolve) => {
    const off = hub.on('agent', ({ change }) => {
      if (change !== 'came') return
      off()
      resolve()
    })
  })
}

/** Opens the hub that launched agents connect to. `connectFlags` are the address and the flags of `--connect`. */
async function openAgentHub(
  { bind = '127.0.0.1:0', insecure, tlsCert, tlsKey }: TaskEnvironmentFlags,
  key: string,
): Promise<{ hub: AgentsProvider; connectFlags: readonly string[] }> {
  try {
    const hub = agents({
      listen: bind,
      key,
      ...(insecure && { insecure }),
      ...(tlsCert !== undefined && { certFile: tlsCert }),
      ...(tlsKey !== undefined && { certKeyFile: tlsKey }),
    })
    const address = await hub.address()
    const dialAddress = address.replace(/^(0\.0\.0\.0|\[::\]):/, `${hostname()}:`)
    const pin =
      tlsCert === undefined
        ? insecure
          ? ['--insecure']
          : []
        : ['--fingerprint', new X509Certificate(readFileSync(tlsCert)).fingerprint256]
    return { hub, connectFlags: [dialAddress, ...pin] }
  } catch (error) {
    throw toTaskCliError(error)
  }
}
