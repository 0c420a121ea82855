/** Checks of a provider, and of what it answers to `start`: a user may have written it. */

import { describe } from './describe.ts'
import { describeError, ManyhostError } from './errors.ts'
import type { Exit, Provider, Running } from './provider.ts'
import { catchRejection } from './user-functions.ts'

export function isProvider(value: unknown): value is Provider {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof Reflect.get(value, 'start') === 'function' &&
    Reflect.get(value, 'capabilities') instanceof Set
  )
}

/** @throws ManyhostError MANYHOST_START_FAILED for what cannot be used as a running instance */
export function checkRunning(value: unknown, { name }: Pick<Provider, 'name'>): Running {
  const wrong = findMissingPart(value)
  if (wrong === undefined) return value as Running
  throw new ManyhostError(
    'MANYHOST_START_FAILED',
    `provider ${name}: start must resolve with { dispatcher, exited, stop }, got ${wrong}`,
  )
}

/** The parts of a running instance that are not functions. */
const PARTS = ['dispatcher', 'exited', 'leaving', 'address', 'slots'] as const

/** Handles the rejection of a part that is a promise, so that it does not end the process. Others check the part itself. */
function watchParts(value: object): void {
  for (const part of PARTS) {
    try {
      catchRejection(Reflect.get(value, part), () => undefined)
    } catch {
      // A getter throws. The code that needs this part handles that.
    }
  }
}

function findMissingPart(value: unknown): string | undefined {
  if (typeof value !== 'object' || value === null) return describe(value)
  watchParts(value)
  const has = (name: string, method: string): boolean =>
    typeof (Reflect.get(value, name) as Record<string, unknown> | undefined)?.[method] ===
    'function'
  if (!has('dispatcher', 'dispatch'))
    return 'an object whose dispatcher is not a Dispatcher of undici'
  if (!has('exited', 'then')) return 'an object whose `exited` is not a promise'
  if (typeof Reflect.get(value, 'stop') !== 'function')
    return 'an object whose `stop` is not a function'
  return undefined
}

/** The end of an instance. Never rejects: if `exited` rejects, the instance counts as lost. */
export async function waitForExit(running: Running): Promise<Exit> {
  try {
    const exit: Partial<Exit> | undefined = await running.exited
    const reason = String(exit?.reason ?? 'exited')
    return { reason, detail: String(exit?.detail ?? reason) }
  } catch (error) {
    return {
      reason: 'lost',
      detail: `its provider failed to say how it ended: ${describeError(error)}`,
    }
  }
}
