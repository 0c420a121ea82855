/**
 * Checks by JSON Schemas that come from outside, without blocking the event loop:
 * 1. A small schema without costly keywords is checked in the event loop, which takes microseconds.
 * 2. All others go to one thread: schemas that may cost more than their size says (patterns, references), large schemas,
 *    and the schemas of `/validator`, which anybody may send.
 *
 * The thread does one check at a time. Each check has a key, and the keys take turns, so that the checks of one service do
 * not delay those of another.
 */
import { Worker } from 'node:worker_threads'
import { deferred } from '../../src/core/deferred.ts'
import { Fifo } from '../../src/core/fifo.ts'
import { compiledPath } from '../../src/core/paths.ts'
import { afterUnref, type Timer } from '../../src/core/time.ts'
import { createRefusal, type ParsedJson, Refusal, type ReplyError } from './json.ts'
import { compileSchema, isSimpleSchema, type JsonSchema } from './schema.ts'

/** A request to the thread: compile `schema`, and check `input` by it if there is an input. Both are JSON texts. */
export interface SchemaCheckRequest {
  readonly id: number
  readonly schema: string
  /** Name of the schema in an error. */
  readonly name: string
  readonly input: string | undefined
  /** Estimated number of values in the input. */
  readonly count: number
}

export interface SchemaCheckResult {
  readonly id: number
  /** What is wrong with the schema or the input; undefined when both are accepted. */
  readonly faults: readonly ReplyError[] | undefined
}

/** Milliseconds of a check after which the thread is ended. The limits inside the thread (1 s, 250 ms) are much shorter. */
const MAX_CHECK_TIME = 5_000
/** Milliseconds without a check after which the thread ends. */
const IDLE_TIMEOUT = 10_000

interface WaitingCheck {
  readonly request: SchemaCheckRequest
  /** Whether the caller still waits for the answer. */
  isWanted(): boolean
  resolve(): void
  reject(error: Error): void
}

class SchemaCheckThread {
  #worker: Worker | undefined
  #current: WaitingCheck | undefined
  /** By key. The order of the keys is that of their turns. */
  readonly #waiting = new Map<string, Fifo<WaitingCheck>>()
  #timer: Timer | undefined
  #lastId = 0

  /**
   * @param key the key in whose turn the check is done
   * @param maxWaiting checks of this key that may wait
   * @throws Refusal 400 that says what is wrong; 503 when too many checks wait
   */
  check(
    key: string,
    maxWaiting: number,
    request: Omit<SchemaCheckRequest, 'id'>,
    isWanted = () => true,
  ): Promise<void> {
    const queue = this.#waiting.get(key) ?? new Fifo<WaitingCheck>()
    if (queue.size >= maxWaiting) {
      const detail = `${queue.size} checks by a JSON Schema wait already`
      return Promise.reject(createRefusal(503, 'Too Many Checks', detail, { 'retry-after': '1' }))
    }
    const { promise, resolve, reject } = deferred<void>()
    queue.push({ request: { id: ++this.#lastId, ...request }, isWanted, resolve, reject })
    this.#waiting.set(key, queue)
    if (!this.#current) this.#next()
    return promise
  }

  #next(): void {
    this.#timer?.clear()
    const turn = this.#waiting.entries().next()
    if (turn.done) {
      this.#current = undefined
      this.#worker?.unref()
      this.#timer = afterUnref(IDLE_TIMEOUT, () => this.#end())
      return
    }
    const [key, queue] = turn.value
    const current = queue.shift()
    this.#waiting.delete(key)
    // At the end of the map, so that all other keys have their turns first.
    if (queue.size > 0) this.#waiting.set(key, queue)
    if (current?.isWanted() === false) {
      current.reject(
        createRefusal(499, 'Client Closed Request', 'the caller of the check has gone'),
      )
      return this.#next()
    }
    this.#current = current
    this.#worker ??= this.#start()
    this.#worker.ref()
    this.#worker.postMessage(this.#current?.request)
    this.#timer = afterUnref(MAX_CHECK_TIME, () => this.#fail('it took too long'))
  }

  #start(): Worker {
    const path = compiledPath('../providers/pull/schema-thread.js')
    const worker = new Worker(path, { execArgv: [], name: 'manyhost schemas' })
    worker.on('message', ({ id, faults }: SchemaCheckResult) => {
      const current = this.#current
      if (this.#worker !== worker || current?.request.id !== id) return
      if (faults) current.reject(new Refusal(faults))
      else current.resolve()
      this.#next()
    })
    const onEnd = (): void => {
      if (this.#worker !== worker) return
      this.#worker = undefined
      if (this.#current) this.#fail('the check failed')
    }
    worker.on('error', onEnd).on('exit', onEnd)
    return worker
  }

  #fail(why: string): void {
    const current = this.#current
    this.#end()
    current?.reject(
      createRefusal(400, 'JSONSchema Validation Error', `the check was ended: ${why}`),
    )
    this.#next()
  }

  #end(): void {
    const worker = this.#worker
    this.#worker = undefined
    void worker?.terminate()
  }
}

/** One for the whole process, because it bounds the work of the machine for all hubs together. */
const thread = new SchemaCheckThread()

/** Checks of one service that may wait. Each belongs to a request whose size is bounded already. */
const MAX_SERVICE_WAITING = 10_000
/** Keys that are no ids of services. */
const VALIDATOR_KEY = 'validator'
const REGISTRATION_KEY = 'registration'
/** Checks of all callers of `/validator`, or of all new services, that may wait. */
const MAX_SHARED_WAITING = 32

/** The schema of a service. */
export interface ServiceSchema {
  /** @throws Refusal 400 that says what is wrong and where; 503 when too many checks wait */
  check(input: ParsedJson): void | Promise<void>
}

/** @param text JSON text of a schema that was accepted before */
export function createServiceSchema(service: string, name: string, text: string): ServiceSchema {
  let plain: JsonSchema | undefined
  return {
    check(input) {
      if (isSimpleSchema(text)) plain ??= compileSchema(JSON.parse(text), name)
      if (plain?.isCheap(input)) return plain.check(input)
      const { value, count } = input
      const request = { schema: text, name, input: JSON.stringify(value), count }
      return thread.check(service, MAX_SERVICE_WAITING, request)
    },
  }
}

/** @throws Refusal 400 when `schema` is not a valid JSON Schema; 503 when too many checks wait */
export async function requireValidSchema(schema: object, name: string): Promise<void> {
  const text = JSON.stringify(schema)
  if (isSimpleSchema(text)) compileSchema(schema, name)
  else {
    const request = { schema: text, name, input: undefined, count: 0 }
    await thread.check(REGISTRATION_KEY, MAX_SHARED_WAITING, request)
  }
}

/**
 * Checks by a schema that is used once. This is always done in the thread.
 * @param isWanted asked when the turn of the check comes: whether the caller still waits for the answer
 * @throws Refusal 400, 503
 */
export function validateBySchema(
  schema: object,
  { value, count }: ParsedJson,
  isWanted: () => boolean,
): Promise<void> {
  const text = JSON.stringify(schema)
  const request = { schema: text, name: 'schema', input: JSON.stringify(value), count }
  return thread.check(VALIDATOR_KEY, MAX_SHARED_WAITING, request, isWanted)
}
