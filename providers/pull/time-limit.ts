/** A limit on what a schema may cost: V8 ends the run of whatever takes longer, a regular expression included. */
import { createContext, Script } from 'node:vm'

const RUN_SCRIPT = new Script('run()')
const RUN_CONTEXT = createContext({ run: undefined })

/** Longest check of one value against one schema, in ms: the event loop stands still for that long at most. */
const MAX_RUN_TIME = 250

export class TimeLimitError extends Error {}

/**
 * Calls `run` and ends it after `timeout` ms. It costs about 0.1 ms by itself.
 *
 * No code of the schema runs here: what it guards against is patterns that backtrack without end, and schemas whose
 * references multiply. A list of patterns that are harmless would always be one short. V8's watch runs on while the
 * machine stands still: a check that had no half of that time for itself has a second try.
 * @throws TimeLimitError
 */
export function runWithTimeLimit<T>(run: () => T, timeout = MAX_RUN_TIME): T {
  for (let isFirst = true; ; isFirst = false) {
    const before = process.cpuUsage()
    try {
      RUN_CONTEXT.run = run
      return RUN_SCRIPT.runInContext(RUN_CONTEXT, { timeout }) as T
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error
      const { user, system } = process.cpuUsage(before)
      const worked = (user + system) / 1_000
      if (!isFirst || worked > timeout / 2)
        throw new TimeLimitError(`it took longer than ${timeout} ms`)
    } finally {
      RUN_CONTEXT.run = undefined
    }
  }
}
