/**
 * The dispatcher of an instance: a request becomes a job, and the result of the job becomes the response. It is made by
 * `compose`, not as a subclass of Dispatcher, because undici gives a composed layer its new kind of handlers, and converts
 * the old kind.
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
import type { WorkerInstance } from './open-job.ts'
import type { PullService } from './pull-service.ts'
import { PulledRequest, type PulledRequestInput } from './pulled-request.ts'

type Options = Dispatcher.DispatchOptions

/** Never connects. It is only there for its `compose`. */
const unconnectedAgent = new Agent()

export function createJobDispatcher(
  hub: JobHub,
  service: PullService,
  instance: WorkerInstance,
  bodySize: number,
): Dispatcher {
  return unconnectedAgent.compose(() => (options, handler) => {
    // Not awaited: as with a connection, the handler is called only after `dispatch` has returned.
    void submitAsJob(hub, service, instance, bodySize, options, handler)
    return true
  })
}

async function submitAsJob(
  hub: JobHub,
  service: PullService,
  instance: WorkerInstance,
  bodySize: number,
  options: Options,
  handler: Dispatcher.DispatchHandler,
): Promise<void> {
  const { path, method, headersTimeout } = options
  const create = (parameters: string, onEnd: () => void) =>
    new PulledRequest(
      { method, path, parameters } satisfies PulledRequestInput,
      handler,
      onEnd,
      headersTimeout ?? 0,
    )
  let parameters: string
  try {
    const parsed = await readParameters(options, bodySize)
    const checked = service.registrationSchema.check(parsed)
    if (checked) await checked
    parameters = JSON.stringify(parsed.value)
  } catch (thrown) {
    return refuseRequest(create('null', ignore), method, asError(thrown))
  }
  if (!instance.isOpen || hub.isClosed) {
    const error = new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${instance.id} has ended`)
    return create(parameters, ignore).fail(error)
  }
  hub.submitRequest(service, instance, (onEnd) => create(parameters, onEnd))
}

/** Answers a request whose parameters are refused, without a worker. Any other error fails the request. */
function refuseRequest(request: PulledRequest, method: string, error: Error): void {
  if (!(error instanceof Refusal)) return request.fail(error)
  // JSON that is well-formed and does not match the schema: 422 (RFC 9110 section 15.5.21).
  const isSchema = error.faults[0]?.title === 'JSONSchema Validation Error'
  const status = isSchema ? 422 : error.status
  const errors = error.faults.map((fault) => ({ ...fault, status_code: status }))
  const body = method === 'HEAD' ? '' : JSON.stringify({ errors })
  request.respond(status, body, { 'content-type': 'application/json' })
}

function ignore(): void {}

/** A JSON body; without a body, the names and values of the query. @throws Refusal 400, 413, 501 */
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
  throw createRefusal(400, 'Not An Object', 'the parameters of a job must be a JSON object')
}

/** @throws Refusal 413 */
async function readBytes(body: Options['body'], limit: number): Promise<Uint8Array> {
  const createTooLarge = (): Refusal =>
    createRefusal(413, 'Request Too Large', `parameters have at most ${limit} bytes`)
  if (body === null || body === undefined) return Buffer.alloc(0)
  if (typeof body === 'string' || body instanceof Uint8Array) {
    const bytes = Buffer.from(body as Uint8Array)
    if (bytes.length > limit) throw createTooLarge()
    return bytes
  }
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body as AsyncIterable<Uint8Array | string>) {
    const bytes = Buffer.from(chunk as Uint8Array)
    size += bytes.length
    if (size > limit) {
      if (body instanceof Readable) body.destroy()
      throw createTooLarge()
    }
    chunks.push(bytes)
  }
  return Buffer.concat(chunks)
}
