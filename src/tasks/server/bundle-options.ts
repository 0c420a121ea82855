/** What the bundles of a run ask of their runner, beyond what each task says itself. */
import type { BundleOptions } from '../runner/protocol.ts'
import type { Store } from '../store/store.ts'
import type { ClusterRunSettings } from './options.ts'

/** A runner waits this long, in ms, before it sends outcomes that do not fill a bundle. */
const OUTCOME_WAIT_MS = 20

export function createBundleOptions(settings: ClusterRunSettings, store: Store): BundleOptions {
  const { cwd, env, taskTimeout, signalWait, monitor, bundleSize, capture, onOutput } = settings
  return {
    // Each task has a template of its own.
    template: '{}',
    // One task may ask by its tag to have its output captured, which only the server knows. Nothing can be captured in memory.
    capture: capture || onOutput !== undefined || store.name !== ':memory:',
    ...(cwd !== undefined && { cwd }),
    ...(Object.keys(env).length > 0 && { env }),
    ...(taskTimeout > 0 && { timeout: taskTimeout }),
    signalWait,
    monitor,
    bundleSize,
    bundleWait: OUTCOME_WAIT_MS,
  }
}
