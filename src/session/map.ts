/** `session.map`: one request per item of a source, a bounded number at a time. The source is read no faster than outcomes are. */
import { setMaxListeners } from 'node:events'
import type { Client } from '../client/client.ts'
import type { RequestOptions } from '../client/request.ts'
import type { Response } from '../client/response.ts'
import { describe } from '../core/describe.ts'
import { asError, ManyhostError } from '../core/errors.ts'
import { callback, oneOf, parseOptions, rule, whole } from '../core/options.ts'
import { catchRejection } from '../core/user-functions.ts'

export type MapSource<Item> = Iterable<Item> | AsyncIterable<Item>

/** The request of one item. Its options take precedence over those of the map. */
export interface MapRequest extends RequestOptions {
  readonly method?: string
  /** Relative to the URL of the map. */
  readonly url?: string | URL
}

export interface MapOptions<Item, Value> {
  /** @default a POST of the item as JSON */
  readonly request?: (item: Item, index: number) => MapRequest
  /** Reads a response, while its slot is held. @default JSON if its type says so, else text; a status from 400 up throws */
  readonly read?: (response: Response, item: Item) => Value | Promise<Value>
  /** Order of the outcomes: `input` is that of the source, `completion` that in which requests end. @default 'input' */
  readonly order?: 'input' | 'completion'
  /** Requests under way plus outcomes that wait to be taken. @default twice the slots of the service, from 16 to 1024 */
  readonly concurrency?: number
  readonly priority?: number
  readonly signal?: AbortSignal
}

/** The outcome of one item: `value`, or `error`. */
export type Mapped<Item, Value> =
  | {
      readonly index: number
      readonly item: Item
      readonly value: Value
      readonly error?: undefined
    }
  | {
      readonly index: number
      readonly item: Item
      readonly error: Error
      readonly value?: undefined
    }

export const MAP_RULES = {
  request: callback<(item: never, index: number) => MapRequest>('a function (item, index)'),
  read: callback<(response: Response, item: never) => unknown>('a function (response, item)'),
  order: oneOf(['input', 'completion'], 'input'),
  concurrency: { ...whole(1, 0), initial: undefined },
  priority: rule<number>('a finite number', undefined, (value) =>
    Number.isFinite(value) ? (value as number) : undefined,
  ),
  signal: rule<AbortSignal>('an AbortSignal', undefined, (value) =>
    value instanceof AbortSignal ? value : undefined,
  ),
} as const

export function defaultMapConcurrency(slots: number): number {
  return Math.min(1_024, Math.max(16, 2 * slots))
}

/**
 * Ends with the source. A request that fails is an outcome with `error`. If the source throws, the map ends with that error
 * after the outcomes of all items before it. Leaving the loop cancels the requests that are under way.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_ABORTED; what the source throws
 */
export async function* mapItems<Item, Value>(
  client: Client,
  url: string | URL,
  source: MapSource<Item>,
  options: MapOptions<Item, Value>,
  concurrency: number,
): AsyncGenerator<Mapped<Item, Value>, void, undefined> {
  const { order = 'input', signal } = options
  const items = iteratorOf(source)
  const controller = new AbortController()
  // Each of the `concurrency` requests that are under way has a listener.
  setMaxListeners(0, controller.signal)
  /** Ends the wait for the next outcome, item or end. A race of promises would keep all of them in memory. */
  let wake = (): void => undefined
  const onAbort = (): void => {
    controller.abort(signal?.reason)
    wake()
  }
  if (signal?.aborted) onAbort()
  else signal?.addEventListener('abort', onAbort, { once: true })
  /** Outcomes that were not taken yet, by index, in the order in which they came. */
  const finished = new Map<number, Mapped<Item, Value>>()
  let count = 0
  let taken = 0
  let isRead = false
  let isAsked = false
  let isOver = false
  let failure: Error | undefined
  const end = (error?: unknown): void => {
    isRead = true
    if (error !== undefined) failure = asError(error)
  }
  const begin = ({ done, value: item }: IteratorResult<Item, unknown>): void => {
    if (done || isOver) return end()
    void sendItem(client, url, item, count++, options, controller.signal).then((outcome) => {
      finished.set(outcome.index, outcome)
      wake()
    })
  }
  /** Asks the source for one item. It does not wait: an outcome that is there must not wait for a slow source. */
  const pull = (): void => {
    try {
      const next = items.next()
      if (!('then' in next)) return begin(next)
      isAsked = true
      const answered = (act: () => void): void => {
        isAsked = false
        try {
          act()
        } catch (error) {
          end(error)
        }
        wake()
      }
      next.then(
        (result) => answered(() => begin(result)),
        (error) => answered(() => end(error ?? new Error(String(error)))),
      )
    } catch (error) {
      end(error ?? new Error(String(error)))
    }
  }
  try {
    for (;;) {
      while (!isRead && !isAsked && count - taken < concurrency && !signal?.aborted) pull()
      if (signal?.aborted) {
        throw new ManyhostError('MANYHOST_ABORTED', 'map: the signal was aborted', {
          cause: signal.reason,
        })
      }
      const [first] = finished.keys()
      const known = finished.get(order === 'input' ? taken : (first ?? -1))
      if (known) {
        finished.delete(known.index)
        taken++
        yield known
      } else if (isRead && count === taken) break
      else {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
    if (failure) throw failure
  } finally {
    isOver = true
    signal?.removeEventListener('abort', onAbort)
    controller.abort(new Error('the map has ended'))
    // A source that does not give the next item may never end either, so nothing waits for it.
    if (!isRead && isAsked) catchRejection(items.return?.(), () => undefined)
    else if (!isRead) await items.return?.()
  }
}

async function sendItem<Item, Value>(
  client: Client,
  url: string | URL,
  item: Item,
  index: number,
  { request, read, priority }: MapOptions<Item, Value>,
  signal: AbortSignal,
): Promise<Mapped<Item, Value>> {
  try {
    const own: MapRequest = request ? checkMapRequest(request(item, index)) : { json: item }
    const { method, url: path, ...rest } = own
    const hasBody = rest.json !== undefined || rest.body !== undefined || rest.form !== undefined
    const response = await client.request(
      method ?? (hasBody ? 'POST' : 'GET'),
      path === undefined ? url : new URL(path, url),
      { ...(priority !== undefined && { priority }), ...rest, signal: rest.signal ?? signal },
    )
    const value = read ? await read(response, item) : ((await readContent(response)) as Value)
    return { index, item, value }
  } catch (error) {
    return { index, item, error: asError(error) }
  }
}

async function readContent(response: Response): Promise<unknown> {
  if (response.status >= 400) {
    // The body is read so that its slot becomes free. Only the status matters.
    await response.bytes()
    response.raiseForStatus()
  }
  const type = response.rawHeader('content-type') ?? ''
  const text = await response.text()
  return /\bjson\b/i.test(type) ? JSON.parse(text) : text
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
function checkMapRequest(own: unknown): MapRequest {
  const isPromise = typeof own === 'object' && own !== null && 'then' in own
  if (typeof own === 'object' && own !== null && !isPromise) return own
  catchRejection(own, () => undefined)
  const text = `map: request must answer an object of options at once, got ${describe(own)}`
  throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
}

function iteratorOf<Item>(source: MapSource<Item>): AsyncIterator<Item> | Iterator<Item> {
  const from = source as Partial<AsyncIterable<Item> & Iterable<Item>> | null | undefined
  if (typeof from?.[Symbol.asyncIterator] === 'function')
    return (source as AsyncIterable<Item>)[Symbol.asyncIterator]()
  if (typeof from?.[Symbol.iterator] === 'function')
    return (source as Iterable<Item>)[Symbol.iterator]()
  const text = `map: the source must be an iterable or an async iterable, got ${describe(source)}`
  throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function checkMapOptions(options: object): void {
  parseOptions('map', options, MAP_RULES)
}
