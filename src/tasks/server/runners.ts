/** The service that shell tasks go to: runners, started by whatever provider the session has, as many as are wanted. */
import { compiled } from '../../core/paths.ts'
import type { ServiceOptions } from '../../session/service.ts'
import type { ClusterRunSettings } from './options.ts'

/** POSTs at a time that one runner is sent at most: each straggler holds one. */
const MOST_POSTS = 64

/** The program of a runner. */
export const RUNNER = compiled('tasks/runner/main.js')

type Settings = Pick<
  ClusterRunSettings,
  | 'url'
  | 'places'
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
export function runnerService(
  url: string,
  settings: Settings,
  token: string,
  balance: NonNullable<ServiceOptions['balance']>,
): ServiceOptions {
  const { places, runners, cores, memory, rate, delayStart, evictAfter } = settings
  const args = ['--places', String(places)]
  if (Number.isFinite(cores)) args.push('--cores', String(cores))
  if (Number.isFinite(memory)) args.push('--memory', String(memory))
  if (Number.isFinite(rate)) args.push('--ratelimit', String(rate))
  if (delayStart !== 0) args.push(`--delay-start=${delayStart / 1_000}`)
  return {
    url,
    command: [...(settings.runner ?? [process.execPath, RUNNER]), ...args],
    ...(settings.provider && { provider: settings.provider }),
    env: { MANYHOST_RUNNER_TOKEN: token },
    initSize: runners,
    ready: '/health',
    startTimeout: 60_000 + Math.abs(delayStart),
    health: { path: '/health', interval: Math.max(500, evictAfter / 4), threshold: 2 },
    concurrency: Math.min(MOST_POSTS, places + 2),
    drainTimeout: 0,
    resend: 'never',
    balance,
  }
}
