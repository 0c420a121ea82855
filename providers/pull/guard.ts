/** A limit on what a schema may cost: V8 ends the run of whatever takes longer, a regular expression included. */
import { createContext, Script } from 'node:vm'

const call = new Script('run()')
const context = createContext({ run: undefined })

/** Longest check of one value against one schema, in ms. The event loop stands still for that long at most. */
const LONGEST = 100

export class TooSlow extends Error {}

/**
 * Calls `run` and ends it after 100 ms. It costs about 0.1 ms by itself.
 *
 * No code of the schema runs here: what it guards against is patterns that backtrack without end, and schemas whose
 * references multiply. A list of patterns that are harmless would always be one short.
 * @throws TooSlow
 */
export function guarded<T>(run: () => T): T {
  context.run = run
  try {
    return call.runInContext(context, { timeout: LONGEST }) as T
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error
    throw new TooSlow(`it took longer than ${LONGEST} ms`)
  } finally {
    context.run = undefined
  }
}
