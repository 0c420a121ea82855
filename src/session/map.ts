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
  const controller = new AbortController()
  // Each of the `concurrency` requests that are under way has a listener.
  setMaxListeners(0, controller.signal)
  /** Ends the wait for the next outcome, item or end. A race of promises would keep all of them in memory. */
  let wake = (): void => undefined
  const onAbort = (): void => {
    controller.abort(signal?.reason)
    wake()
  }
  /** Outcomes that were not taken yet, by index, in the order in which they came. */
  const finished = new Map<number, Mapped<Item, Value>>()
  let count = 0
  let taken = 0
  const reader = new SourceReader(iteratorOf(source), {
    onItem: (item) => {
      void sendItem(client, url, item, count++, options, controller.signal).then((outcome) => {
        finished.set(outcome.index, outcome)
        wake()
      })
    },
    onAnswer: () => wake(),
  })
  if (signal?.aborted) onAbort()
  else signal?.addEventListener('abort', onAbort, { once: true })
  try {
    for (;;) {
      while (reader.isReady && count - taken < concurrency && !signal?.aborted) reader.pull()
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
      } else if (reader.hasEnded && count === taken) break
      else {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    }
    if (reader.failure) throw reader.failure
  } finally {
    signal?.removeEventListener('abort', onAbort)
    controller.abort(new Error('the map has ended'))
    await reader.close()
  }
}

interface SourceReaderEvents<Item> {
  onItem(item: Item): void
  /** An asynchronous source has given an item, or has ended. */
  onAnswer(): void
}

/** Asks a source for one item at a time. It never waits: outcomes that are there must not wait for a slow source. */
class SourceReader<Item> {
  /** Why the source failed, if it did. */
  failure: Error | undefined
  readonly #items: AsyncIterator<Item> | Iterator<Item>
  readonly #events: SourceReaderEvents<Item>
  #hasEnded = false
  /** The source was asked for an item that it has not given yet. */
  #isAsked = false
  #isClosed = false

  constructor(items: AsyncIterator<Item> | Iterator<Item>, events: SourceReaderEvents<Item>) {
    this.#items = items
    this.#events = events
  }

  /** Whether the source has no further item. */
  get hasEnded(): boolean {
    return this.#hasEnded
  }

  /** Whether the source can be asked for an item now. */
  get isReady(): boolean {
    return !this.#hasEnded && !this.#isAsked
  }

  pull(): void {
    try {
      const next = this.#items.next()
      if (!('then' in next)) return this.#take(next)
      this.#isAsked = true
      next.then(
        (result) => this.#onAnswer(() => this.#take(result)),
        (error) => this.#onAnswer(() => this.#fail(error)),
      )
    } catch (error) {
      this.#fail(error)
    }
  }

  #onAnswer(act: () => void): void {
    this.#isAsked = false
    try {
      act()
    } catch (error) {
      this.#fail(error)
    }
    this.#events.onAnswer()
  }

  #take({ done, value: item }: IteratorResult<Item, unknown>): void {
    if (done || this.#isClosed) this.#hasEnded = true
    else this.#events.onItem(item)
  }

  #fail(error: unknown): void {
    this.#hasEnded = true
    this.failure = asError(error ?? new Error(String(error)))
  }

  /** Tells the source that no further item is wanted. */
  async close(): Promise<void> {
    this.#isClosed = true
    if (this.#hasEnded) return
    // A source that does not give the next item may never end either, so nothing waits for it.
    if (this.#isAsked) catchRejection(this.#items.return?.(), () => undefined)
    else await this.#items.return?.()
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
