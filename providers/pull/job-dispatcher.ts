/**
 * The dispatcher of a place: a request becomes a job, and its result the response. Composed, not a subclass of
 * Dispatcher: undici shows a layer its new handlers, and turns callers that have the old ones.
 */
import { Readable } from 'node:stream'
import { Agent, type Dispatcher } from 'undici'
import { asError, ManyhostError } from '../../src/core/errors.ts'
import type { JobHub } from './job-hub.ts'
import {
  createRefusal,
  decodeUtf8,
  isMapping,
  type ParsedJson,
  parseJson,
  Refusal,
} from './json.ts'
import type { PullInstance } from './pull-instance.ts'
import type { PullService } from './pull-service.ts'
import { PulledRequest, type PulledRequestInput } from './pulled-request.ts'

type Options = Dispatcher.DispatchOptions

/** Never connects: it lends its `compose`. */
const unconnectedAgent = new Agent()

export function createJobDispatcher(
  hub: JobHub,
  service: PullService,
  instance: PullInstance,
  bodySize: number,
): Dispatcher {
  return unconnectedAgent.compose(() => (options, handler) => {
    // As a connection does: nothing is heard of it before the call of dispatch has returned.
    void submitAsJob(hub, service, instance, bodySize, options, handler)
    return true
  })
}

async function submitAsJob(
  hub: JobHub,
  service: PullService,
  instance: PullInstance,
  bodySize: number,
  options: Options,
  handler: Dispatcher.DispatchHandler,
): Promise<void> {
  const { path, method, headersTimeout } = options
  const make = (facts: PulledRequestInput) => (over: () => void) =>
    new PulledRequest(facts, instance, handler, over, headersTimeout ?? 0)
  let facts: PulledRequestInput = { method, path, parameters: 'null' }
  try {
    const parameters = await readParameters(options, bodySize)
    const checked = service.registrationSchema.check(parameters)
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
    return call.respond(status, omitBodyOfHead(method, JSON.stringify({ errors })), JSON_TYPE)
  }
  if (!instance.isOpen || hub.isClosed) {
    const error = new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${instance.id} has ended`)
    return make(facts)(() => undefined).fail(error)
  }
  hub.submitRequest(service, make(facts))
}

const JSON_TYPE = { 'content-type': 'application/json' }

function omitBodyOfHead(method: string, body: string): string {
  return method === 'HEAD' ? '' : body
}

/** A JSON body; without one, the query's names and values. @throws Refusal 400, 413, 501 */
async function readParameters(options: Options, limit: number): Promise<ParsedJson> {
  if (options.upgrade || options.method === 'CONNECT') {
    throw createRefusal(501, 'Not Implemented', 'a worker that polls has no connection to upgrade')
  }
  const bytes = await readBytes(options.body, limit)
  if (bytes.length === 0) {
    const query = new URLSearchParams(options.path.split('?', 2)[1] ?? '')
    const value = Object.fromEntries(query)
    return { value, count: Object.keys(value).length + 1 }
  }
  const parsed = parseJson(decodeUtf8(bytes))
  if (isMapping(parsed.value)) return parsed
  throw createRefusal(400, 'Not An Object', 'parameters of a job are a JSON object')
}

async function readBytes(body: Options['body'], limit: number): Promise<Uint8Array> {
  const tooLarge = (): Refusal =>
    createRefusal(413, 'Request Too Large', `parameters have at most ${limit} bytes`)
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
