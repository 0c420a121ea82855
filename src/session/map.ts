/** `session.map`: one request an item of a source, so many at a time, which is read no faster than answers are. */
import { setMaxListeners } from 'node:events'
import type { Client } from '../client/client.ts'
import type { RequestOptions } from '../client/request.ts'
import type { Response } from '../client/response.ts'
import { describe } from '../core/describe.ts'
import { asError, ManyhostError } from '../core/errors.ts'
import { callback, oneOf, parseOptions, rule, whole } from '../core/options.ts'
import { catchRejection } from '../core/user-functions.ts'

export type MapSource<Item> = Iterable<Item> | AsyncIterable<Item>

/** What one item's request is; what it says stands before what all say. */
export interface MapRequest extends RequestOptions {
  readonly method?: string
  /** Relative to the URL of the map. */
  readonly url?: string | URL
}

export interface MapOptions<Item, Value> {
  /** @default a POST of the item as JSON */
  readonly request?: (item: Item, index: number) => MapRequest
  /** What is made of an answer, before its instance is free. @default JSON where it says so, else text; 400 and above throw */
  readonly read?: (response: Response, item: Item) => Value | Promise<Value>
  /** `input`: in the order of the source; `completion`: as they come. @default 'input' */
  readonly order?: 'input' | 'completion'
  /** Requests at a time, and outcomes that wait to be taken. @default twice the places that there are, 16 to 1024 */
  readonly concurrency?: number
  readonly priority?: number
  readonly signal?: AbortSignal
}

/** What became of one item: `value`, or `error`. */
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
 * Ends with the source. A request that fails is an outcome with `error`; a source that throws ends it, when all before has
 * had its outcome. Leaving the loop ends what is under way.
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
  // Each request under way listens; there are `concurrency` of them.
  setMaxListeners(0, controller.signal)
  /** Ends the wait for whatever comes next: an outcome, an item, or the end. Not a race, which would keep each of them. */
  let wake = (): void => undefined
  const onAbort = (): void => {
    controller.abort(signal?.reason)
    wake()
  }
  if (signal?.aborted) onAbort()
  else signal?.addEventListener('abort', onAbort, { once: true })
  /** Outcomes that were not taken yet, by index; a map keeps the order in which they came. */
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
  /** Asks the source for one item. An outcome that is there does not wait for a source that does not answer. */
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
        throw new ManyhostError('MANYHOST_ABORTED', 'the map was given up', {
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
    // A source that was asked and does not answer may not end, either: nobody waits for that.
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
    // Read, so that its place is free; the status is what counts.
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
