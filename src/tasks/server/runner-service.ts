/** The service that shell tasks go to: runners, started by the session's provider, as many as are wanted. */
import { compiledPath } from '../../core/paths.ts'
import { parseVirtualUrl } from '../../core/registry.ts'
import type { ServiceOptions } from '../../session/service.ts'
import type { SessionCore } from '../../session/session.ts'
import type { ClusterRunSettings } from './options.ts'

/** Most POSTs that one runner gets at a time: each task that takes longer than its bundle keeps one open. */
const MAX_POSTS_PER_RUNNER = 64

/** How long the runners of a session that goes on may take to end, in ms. */
const REMOVE_TIMEOUT_MS = 5_000

/** The program of a runner. */
export const RUNNER_PROGRAM = compiledPath('tasks/runner/main.js')

type RunnerServiceSettings = Pick<
  ClusterRunSettings,
  | 'numTasks'
  | 'runner'
  | 'provider'
  | 'runners'
  | 'cores'
  | 'memory'
  | 'rate'
  | 'delayStart'
  | 'evictAfter'
>

/** How the session starts runners. The token goes by the environment: every user can read the arguments of a process. */
export function createRunnerServiceOptions(
  url: string,
  settings: RunnerServiceSettings,
  token: string,
  balance: NonNullable<ServiceOptions['balance']>,
): ServiceOptions {
  const { numTasks, runners, cores, memory, rate, delayStart, evictAfter } = settings
  const args = ['--num-tasks', String(numTasks)]
  if (Number.isFinite(cores)) args.push('--cores', String(cores))
  if (Number.isFinite(memory)) args.push('--memory', String(memory))
  if (Number.isFinite(rate)) args.push('--ratelimit', String(rate))
  if (delayStart !== 0) args.push(`--delay-start=${delayStart / 1_000}`)
  return {
    url,
    command: [...(settings.runner ?? [process.execPath, RUNNER_PROGRAM]), ...args],
    ...(settings.provider && { provider: settings.provider }),
    env: { MANYHOST_RUNNER_TOKEN: token },
    initSize: runners,
    ready: '/health',
    startTimeout: 60_000 + Math.abs(delayStart),
    health: { path: '/health', interval: Math.max(500, evictAfter / 4), threshold: 2 },
    concurrency: Math.min(MAX_POSTS_PER_RUNNER, numTasks + 2),
    drainTimeout: 0,
    resend: 'never',
    balance,
  }
}

/** The service as a run uses it: registered when it is first needed, unless the session has one at that URL already. */
export class RunnerService {
  readonly url: string
  /** The URL as the session's clusters have it. */
  readonly href: string
  /** What the runners want to see; undefined: nothing. */
  readonly token: string | undefined
  readonly #session: SessionCore
  readonly #settings: ClusterRunSettings
  #isRegistered = false

  /** @param newToken for runners that are started from here */
  constructor(url: string, session: SessionCore, settings: ClusterRunSettings, newToken: string) {
    this.url = url
    this.href = parseVirtualUrl(url).href
    this.#session = session
    this.#settings = settings
    this.token = settings.token ?? (this.cluster ? undefined : newToken)
  }

  /** Undefined before the service was needed. */
  get cluster() {
    return this.#session.clusters.find((one) => one.url === this.href)
  }

  /**
   * Registers the service, which the session has not yet.
   * @param balance picks the runner of a bundle
   * @param size read again and again as the number of runners; undefined: it stays as it was at the start
   * @throws ManyhostError where runners cannot be started
   */
  register(
    balance: NonNullable<ServiceOptions['balance']>,
    size: (() => number) | undefined,
  ): void {
    const token = this.token as string
    this.#session.startup(createRunnerServiceOptions(this.url, this.#settings, token, balance))
    this.#isRegistered = true
    if (size) this.#session.setSize(this.url, size)
  }

  /** Removes the service if it was registered from here. */
  async close(): Promise<void> {
    if (!this.#isRegistered) return
    this.#isRegistered = false
    await this.#session.remove(this.url, { timeout: REMOVE_TIMEOUT_MS })
  }
}
