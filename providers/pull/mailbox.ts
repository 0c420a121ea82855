/**
 * The dispatcher of a place: a request becomes a job, and its result the response. Composed, not a subclass of
 * Dispatcher: undici shows a layer its new handlers, and turns callers that have the old ones.
 */
import { Readable } from 'node:stream'
import { Agent, type Dispatcher } from 'undici'
import { asError, ManyhostError } from '../../src/core/errors.ts'
import { Call, type CallFacts } from './call.ts'
import type { Hub } from './hub.ts'
import { decode, isMapping, type Parsed, parseJson, Refusal, refuse } from './json.ts'
import type { Place } from './place.ts'
import type { Service } from './service.ts'

type Options = Dispatcher.DispatchOptions

/** Never connects: it lends its `compose`. */
const nowhere = new Agent()

export function mailbox(hub: Hub, service: Service, place: Place, bodySize: number): Dispatcher {
  return nowhere.compose(() => (options, handler) => {
    // As a connection does: nothing is heard of it before the call of dispatch has returned.
    void post(hub, service, place, bodySize, options, handler)
    return true
  })
}

async function post(
  hub: Hub,
  service: Service,
  place: Place,
  bodySize: number,
  options: Options,
  handler: Dispatcher.DispatchHandler,
): Promise<void> {
  const { path, method, headersTimeout } = options
  const make = (facts: CallFacts) => (over: () => void) =>
    new Call(facts, place, handler, over, headersTimeout ?? 0)
  let facts: CallFacts = { method, path, parameters: 'null' }
  try {
    const parameters = await parametersOf(options, bodySize)
    const checked = service.registration.check(parameters)
    if (checked) await checked
    facts = { method, path, parameters: JSON.stringify(parameters.value) }
  } catch (thrown) {
    const call = make(facts)(() => undefined)
    const error = asError(thrown)
    if (!(error instanceof Refusal)) return call.fail(error)
    // It is well-formed, and not what the service takes: 422 (RFC 9110 section 15.5.21).
    const isSchema = error.faults[0]?.title === 'JSONSchema Validation Error'
    const status = isSchema ? 422 : error.status
    const errors = error.faults.map((fault) => ({ ...fault, status_code: status }))
    return call.answer(status, bodyFor(method, JSON.stringify({ errors })), JSON_TYPE)
  }
  if (!place.isOpen || hub.isClosed) {
    const error = new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${place.id} has ended`)
    return make(facts)(() => undefined).fail(error)
  }
  hub.enter(service, make(facts))
}

const JSON_TYPE = { 'content-type': 'application/json' }

function bodyFor(method: string, body: string): string {
  return method === 'HEAD' ? '' : body
}

/** A JSON body; without one, the query's names and values. @throws Refusal 400, 413, 501 */
async function parametersOf(options: Options, limit: number): Promise<Parsed> {
  if (options.upgrade || options.method === 'CONNECT') {
    throw refuse(501, 'Not Implemented', 'a worker that polls has no connection to upgrade')
  }
  const bytes = await bytesOf(options.body, limit)
  if (bytes.length === 0) {
    const query = new URLSearchParams(options.path.split('?', 2)[1] ?? '')
    const value = Object.fromEntries(query)
    return { value, count: Object.keys(value).length + 1 }
  }
  const parsed = parseJson(decode(bytes))
  if (isMapping(parsed.value)) return parsed
  throw refuse(400, 'Not An Object', 'parameters of a job are a JSON object')
}

async function bytesOf(body: Options['body'], limit: number): Promise<Uint8Array> {
  const tooLarge = (): Refusal =>
    refuse(413, 'Request Too Large', `parameters have at most ${limit} bytes`)
  if (body === null || body === undefined) return Buffer.alloc(0)
  if (typeof body === 'string' || body instanceof Uint8Array) {
    const bytes = Buffer.from(body as Uint8Array)
    if (bytes.length > limit) throw tooLarge()
    return bytes
  }
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body as AsyncIterable<Uint8Array | string>) {
    const bytes = Buffer.from(chunk as Uint8Array)
    size += bytes.length
    if (size > limit) {
      if (body instanceof Readable) body.destroy()
      throw tooLarge()
    }
    chunks.push(bytes)
  }
  return Buffer.concat(chunks)
}
