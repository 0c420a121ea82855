/** The functions of a service's options that the queue calls: `balance` and `fairness`, guarded against failures. */
import { guardFunction } from '../core/user-functions.ts'
import { hasFreeSlot, leastInFlight, type Pick } from './balance.ts'
import type { RequestInput } from './exchange.ts'
import type { DispatchSettings, FairnessRequest } from './settings.ts'

/** Guards a user's `balance`: an answer that is not the index of a target with a free slot is replaced. */
export function guardPick(given: Pick, { service, report }: DispatchSettings): Pick {
  return guardFunction<Parameters<Pick>, number>(given, {
    what: `the balance of ${service}`,
    instead: 'least-in-flight picks the instance',
    service,
    report,
    wanted: 'the index of an instance with a free slot',
    read: (index, targets) =>
      typeof index === 'number' && hasFreeSlot(targets[index]) ? index : undefined,
    fallback: leastInFlight,
  })
}

/** Guards a user's `fairness`: without a usable key, the request counts as one without a key. */
export function guardFairness(
  given: (request: FairnessRequest) => string,
  { service, report }: DispatchSettings,
): (request: FairnessRequest) => string {
  return guardFunction<[FairnessRequest], string>(given, {
    what: `the fairness of ${service}`,
    instead: 'the request counts as one without a key',
    service,
    report,
    wanted: 'a text',
    read: parseFairnessKey,
    fallback: () => '',
  })
}

/**
 * `undefined` and `null` are no key: a function that looks for a header answers them for a request without the header.
 * Finite numbers and booleans are taken as names.
 */
function parseFairnessKey(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  if (value === undefined || value === null) return ''
  const isName = typeof value === 'bigint' || typeof value === 'boolean' || Number.isFinite(value)
  return isName ? String(value) : undefined
}

/** What a user's `fairness` gets to see of a request. */
export function toFairnessRequest(request: RequestInput): FairnessRequest {
  const { method, path, affinity, headers } = request
  const header = (name: string): string | undefined => {
    const wanted = name.toLowerCase()
    for (let i = 0; i < headers.length; i += 2) {
      if ((headers[i] as string).toLowerCase() === wanted) return headers[i + 1]
    }
    return undefined
  }
  return { method, path, affinity, header }
}
