/** A time limit for synchronous code: V8 ends code that takes longer, and a regular expression, too. */
import { createContext, Script } from 'node:vm'

const RUN_SCRIPT = new Script('run()')
const RUN_CONTEXT = createContext({ run: undefined })

/** Longest check of one value by one schema, in ms. The event loop is blocked for as long as this at most. */
const MAX_RUN_TIME = 250

export class TimeLimitError extends Error {}

/**
 * Calls `run` and ends it after `timeout` ms. The call itself costs about 0.1 ms.
 *
 * It is no sandbox, because schemas contain no code. It guards against patterns that backtrack without end, and against
 * schemas whose references multiply. A list of harmless patterns instead would never be complete. V8's clock runs on while
 * the machine stands still, so a check that got less than half of the time for itself has a second try.
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
