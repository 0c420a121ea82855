/**
 * Checks by JSON Schemas that come from outside, without the event loop waiting for them. A small, plain schema is
 * checked where the request is handled: that takes microseconds. Everything else goes to one thread: schemas that may
 * cost more than their size says (patterns, references), large schemas, and the schemas of `/validator`, which anybody
 * may send. The thread does one check at a time, and takes the keys that wait in turn, so that the checks of one service
 * do not hold up those of another.
 */
import { Worker } from 'node:worker_threads'
import { compiledPath } from '../../src/core/paths.ts'
import { afterUnref, type Timer } from '../../src/core/time.ts'
import { createRefusal, type ParsedJson, Refusal, type ReplyError } from './json.ts'
import { compileSchema, isSimpleSchema, type JsonSchema } from './schema.ts'

/** What the thread is asked: compile `schema`, and check `input` by it if there is one. Both are JSON texts. */
export interface SchemaCheckRequest {
  readonly id: number
  readonly schema: string
  /** What the schema is called in an error. */
  readonly name: string
  readonly input: string | undefined
  /** Values in the input, about. */
  readonly count: number
}

export interface SchemaCheckResult {
  readonly id: number
  /** Why the schema or the input is refused; undefined when both are right. */
  readonly faults: readonly ReplyError[] | undefined
}

/** Milliseconds after which the thread is ended; its own limits, 1 s and 250 ms, end a check long before. */
const MAX_CHECK_TIME = 5_000
/** Milliseconds without a check after which the thread ends. */
const IDLE_TIMEOUT = 10_000

interface WaitingCheck {
  readonly request: SchemaCheckRequest
  /** Whether the caller is still there. */
  isWanted(): boolean
  resolve(): void
  reject(error: Error): void
}

class SchemaCheckThread {
  #worker: Worker | undefined
  #current: WaitingCheck | undefined
  /** By key, in the order of their turns. */
  readonly #waiting = new Map<string, WaitingCheck[]>()
  #timer: Timer | undefined
  #count = 0

  /**
   * @param key whose turn it takes
   * @param maxWaiting checks of this key that may wait
   * @throws Refusal 400 that says what is wrong; 503 when too many wait
   */
  check(
    key: string,
    maxWaiting: number,
    what: Omit<SchemaCheckRequest, 'id'>,
    isWanted = () => true,
  ): Promise<void> {
    const line = this.#waiting.get(key) ?? []
    if (line.length >= maxWaiting) {
      const detail = `${line.length} checks by a JSON Schema wait already`
      return Promise.reject(createRefusal(503, 'Too Many Checks', detail, { 'retry-after': '1' }))
    }
    return new Promise((resolve, reject) => {
      line.push({ request: { id: ++this.#count, ...what }, isWanted, resolve, reject })
      this.#waiting.set(key, line)
      if (!this.#current) this.#next()
    })
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
    const [key, line] = turn.value
    const current = line.shift()
    this.#waiting.delete(key)
    // To the end: the other keys have their turn first.
    if (line.length > 0) this.#waiting.set(key, line)
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

/** One for the process: what it must bound is the work of the machine, whoever asks. */
const thread = new SchemaCheckThread()

/** Checks of one service that may wait; each holds a request that is bounded already. */
const MAX_SERVICE_WAITING = 10_000
/** Keys beside the ids of services. */
const VALIDATOR_KEY = 'validator'
const REGISTRATION_KEY = 'registration'
/** Checks of all callers of `/validator`, or of all new services, that may wait. */
const MAX_SHARED_WAITING = 32

/** The schema of a service. */
export interface ServiceSchema {
  /** @throws Refusal 400 that says what is wrong and where; 503 when too many checks wait */
  check(input: ParsedJson): void | Promise<void>
}

/** @param text of a schema that was accepted before */
export function createServiceSchema(service: string, name: string, text: string): ServiceSchema {
  let plain: JsonSchema | undefined
  return {
    check(input) {
      if (isSimpleSchema(text)) plain ??= compileSchema(JSON.parse(text), name)
      if (plain?.isCheap(input)) return plain.check(input)
      const { value, count } = input
      const question = { schema: text, name, input: JSON.stringify(value), count }
      return thread.check(service, MAX_SERVICE_WAITING, question)
    },
  }
}

/** Whether it is a schema at all. @throws Refusal 400, 503 */
export async function requireValidSchema(schema: object, name: string): Promise<void> {
  const text = JSON.stringify(schema)
  if (isSimpleSchema(text)) compileSchema(schema, name)
  else {
    const question = { schema: text, name, input: undefined, count: 0 }
    await thread.check(REGISTRATION_KEY, MAX_SHARED_WAITING, question)
  }
}

/**
 * Checks by a schema that is used once: always in the thread.
 * @param isWanted whether the caller is still there when its turn comes
 * @throws Refusal 400, 503
 */
export function validateBySchema(
  schema: object,
  { value, count }: ParsedJson,
  isWanted: () => boolean,
): Promise<void> {
  const text = JSON.stringify(schema)
  const question = { schema: text, name: 'schema', input: JSON.stringify(value), count }
  return thread.check(VALIDATOR_KEY, MAX_SHARED_WAITING, question, isWanted)
}
