/** A limit on what a schema may cost: V8 ends the run of whatever takes longer, a regular expression included. */
import { createContext, Script } from 'node:vm'

const call = new Script('run()')
const context = createContext({ run: undefined })

/** Longest check of one value against one schema, in ms: the event loop stands still for that long at most. */
const LONGEST = 250

export class TooSlow extends Error {}

/**
 * Calls `run` and ends it after `timeout` ms. It costs about 0.1 ms by itself.
 *
 * No code of the schema runs here: what it guards against is patterns that backtrack without end, and schemas whose
 * references multiply. A list of patterns that are harmless would always be one short.
 * @throws TooSlow
 */
export function guarded<T>(run: () => T, timeout = LONGEST): T {
  context.run = run
  try {
    return call.runInContext(context, { timeout }) as T
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error
    throw new TooSlow(`it took longer than ${timeout} ms`)
  } finally {
    context.run = undefined
  }
}
