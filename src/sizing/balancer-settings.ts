/** The settings of the load balancers, with defaults and ranges, for their constructors and for files. */
import type { PolicySetting } from './settings.ts'
import type { SizedCluster } from './sized-cluster.ts'

const MAX_SETTING = Number.MAX_SAFE_INTEGER
const scaleDownDelay = { default: 0, min: 0, unit: 'ms' } as const

export const IDLE_AFTER_SETTING = { default: 60_000, min: 0, unit: 'ms' } as const

/** By name of the load balancer. Some defaults depend on the cluster. */
export const BALANCER_SETTINGS = {
  simple: () => ({
    max: { default: 5, min: 1, whole: true },
    interval: { default: 10_000, min: 0, unit: 'ms' },
    initial: { default: 3, min: 0, max: MAX_SETTING, whole: true },
  }),
  'queue-length': ({ concurrency }) => ({
    perInstance: { default: concurrency, min: 0.01, max: MAX_SETTING },
    scaleDownDelay,
  }),
  'target-in-flight': ({ concurrency }) => ({
    target: { default: 0.7 * concurrency, min: 0.01, max: MAX_SETTING },
    stableWindow: { default: 60_000, min: 1_000, max: 86_400_000, unit: 'ms' },
    panicWindow: { default: 6_000, min: 10, max: 86_400_000, unit: 'ms' },
    panicThreshold: { default: 2, min: 1 },
    maxScaleUpRate: { default: 1_000, min: 1.01, max: MAX_SETTING },
    maxScaleDownRate: { default: 2, min: 1.01 },
    scaleDownDelay,
  }),
  'idle-to-zero': ({ size }) => ({
    active: { default: size || 1, min: 1, max: MAX_SETTING, whole: true },
    idleAfter: IDLE_AFTER_SETTING,
  }),
} as const satisfies Record<
  string,
  (cluster: Pick<SizedCluster, 'concurrency' | 'size'>) => Readonly<Record<string, PolicySetting>>
>
