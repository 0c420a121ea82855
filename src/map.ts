/** `session.map`: one request an item of a source, so many at a time, which is read no faster than answers are. */
import { setMaxListeners } from 'node:events'
import type { Client } from './client.ts'
import { asError, ManyhostError } from './errors.ts'
import { callback, oneOf, parseOptions, rule, whole } from './options.ts'
import type { RequestOptions } from './request.ts'
import type { Response } from './response.ts'

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

export function fittingConcurrency(places: number): number {
  return Math.min(1_024, Math.max(16, 2 * places))
}

/**
 * Ends with the source. A request that fails is an outcome with `error`; a source that throws ends it, when all before has
 * had its outcome. Leaving the loop ends what is under way.
 * @throws ManyhostError MANYHOST_INVALID_OPTION, MANYHOST_ABORTED; what the source throws
 */
export async function* mapped<Item, Value>(
  client: Client,
  url: string | URL,
  source: MapSource<Item>,
  options: MapOptions<Item, Value>,
  concurrency: number,
): AsyncGenerator<Mapped<Item, Value>, void, undefined> {
  const { order = 'input', signal } = options
  const controller = new AbortController()
  // Each request under way listens; there are `concurrency` of them.
  setMaxListeners(0, controller.signal)
  const onAbort = (): void => controller.abort(signal?.reason)
  if (signal?.aborted) onAbort()
  else signal?.addEventListener('abort', onAbort, { once: true })
  const items = iteratorOf(source)
  const open = new Map<number, Promise<Mapped<Item, Value>>>()
  // Not `Promise.race`: one that takes long would gather a listener with each of the others.
  const finished: Mapped<Item, Value>[] = []
  let wake: (() => void) | undefined
  const finish = (outcome: Mapped<Item, Value>): void => {
    finished.push(outcome)
    wake?.()
  }
  const wait = (resolve: (value: undefined) => void): void => {
    wake = () => resolve(undefined)
  }
  let count = 0
  let isRead = false
  let failure: Error | undefined
  try {
    while (!isRead || open.size > 0) {
      while (!isRead && open.size < concurrency && !signal?.aborted) {
        const index = count
        try {
          const next = await items.next()
          if (next.done) isRead = true
          else {
            count++
            const item = next.value
            const outcome = one(client, url, item, index, options, controller.signal)
            open.set(index, outcome)
            if (order === 'completion') void outcome.then(finish)
          }
        } catch (error) {
          failure = asError(error)
          isRead = true
        }
      }
      if (signal?.aborted) {
        throw new ManyhostError('MANYHOST_ABORTED', 'the map was given up', {
          cause: signal.reason,
        })
      }
      if (open.size === 0) break
      const [oldest = 0] = open.keys()
      if (order === 'completion' && finished.length === 0) await new Promise(wait)
      const known = finished.shift() ?? ((await open.get(oldest)) as Mapped<Item, Value>)
      open.delete(known.index)
      yield known
    }
    if (failure) throw failure
  } finally {
    signal?.removeEventListener('abort', onAbort)
    controller.abort(new Error('the map has ended'))
    if (!isRead) await items.return?.()
  }
}

async function one<Item, Value>(
  client: Client,
  url: string | URL,
  item: Item,
  index: number,
  { request, read, priority }: MapOptions<Item, Value>,
  signal: AbortSignal,
): Promise<Mapped<Item, Value>> {
  try {
    const own: MapRequest = request ? request(item, index) : { json: item }
    const { method, url: path, ...rest } = own
    const hasBody = rest.json !== undefined || rest.body !== undefined || rest.form !== undefined
    const response = await client.request(
      method ?? (hasBody ? 'POST' : 'GET'),
      path === undefined ? url : new URL(path, url),
      { ...(priority !== undefined && { priority }), ...rest, signal: rest.signal ?? signal },
    )
    const value = read ? await read(response, item) : ((await content(response)) as Value)
    return { index, item, value }
  } catch (error) {
    return { index, item, error: asError(error) }
  }
}

async function content(response: Response): Promise<unknown> {
  if (response.status >= 400) {
    // Read, so that its place is free; the status is what counts.
    await response.bytes()
    response.raiseForStatus()
  }
  const type = response.rawHeader('content-type') ?? ''
  const text = await response.text()
  return /\bjson\b/i.test(type) ? JSON.parse(text) : text
}

function iteratorOf<Item>(source: MapSource<Item>): AsyncIterator<Item> | Iterator<Item> {
  return Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]()
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function checkMap(options: object): void {
  parseOptions('map', options, MAP_RULES)
}
