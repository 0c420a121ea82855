/** The service that shell tasks go to: runners, started by whatever provider the session has, as many as are wanted. */
import { compiledPath } from '../../core/paths.ts'
import type { ServiceOptions } from '../../session/service.ts'
import type { ClusterRunSettings } from './options.ts'

/** POSTs at a time that one runner is sent at most: each straggler holds one. */
const MAX_POSTS_PER_RUNNER = 64

/** The program of a runner. */
export const RUNNER_PROGRAM = compiledPath('tasks/runner/main.js')

type RunnerServiceSettings = Pick<
  ClusterRunSettings,
  | 'url'
  | 'numTasks'
  | 'runner'
  | 'provider'
  | 'runners'
  | 'autoscaling'
  | 'maxSize'
  | 'cores'
  | 'memory'
  | 'rate'
  | 'delayStart'
  | 'evictAfter'
>

/** What `session.startup` takes for it. The token goes by the environment: arguments can be read by every user. */
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
