/** Instances that run already, started by somebody else: a start hands out an address, a stop takes it back. */
import { isAbsolute } from 'node:path'
import type { Pool } from 'undici'
import { ManyhostError } from '../src/errors.ts'
import type { Capability, Exit, Provider, Running, StartSpec } from '../src/provider.ts'
import { type Endpoint, endpointOf, knock, openPool } from './endpoint.ts'
import { Grace } from './grace.ts'

export interface FixedOptions {
  /** `http://host:port`, `https://host:port` or `unix:/path/of.sock`; one instance each. */
  readonly urls: readonly string[]
  /** How connections are made, TLS settings for instance: undici's option of that name. */
  readonly connect?: NonNullable<Pool.Options['connect']>
}

/** A provider of a fixed number of addresses. */
export interface FixedProvider extends Provider {
  /** How many instances there can be. */
  readonly limit: number
}

/**
 * Serves from addresses that are there already. The servers are not touched.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function fixed(options: FixedOptions): FixedProvider {
  for (const name of Object.keys(options)) {
    if (name !== 'urls' && name !== 'connect') {
      throw invalid(`fixed has no option '${name}'; it has urls, connect`)
    }
  }
  const { urls, connect } = options
  if (!Array.isArray(urls) || urls.length === 0) {
    throw invalid(`urls must be a list of one or more URLs, got ${JSON.stringify(urls)}`)
  }
  if (connect !== undefined && !['object', 'function'].includes(typeof connect)) {
    throw invalid(`connect must be an object or a function, got ${JSON.stringify(connect)}`)
  }
  const endpoints = new Map<string, Endpoint>()
  for (const [index, url] of urls.entries()) {
    const endpoint = parse(url, `urls[${index}]`)
    if (endpoints.has(endpoint.address)) throw invalid(`urls[${index}] is there twice: ${url}`)
    endpoints.set(endpoint.address, endpoint)
  }
  return new Fixed([...endpoints.values()], connect)
}

function parse(url: unknown, option: string): Endpoint {
  const wrong = (why: string): ManyhostError =>
    invalid(`${option} must be like 'http://host:port' or 'unix:/path', got ${quote(url)}: ${why}`)
  if (typeof url !== 'string') throw wrong('not a string')
  if (url.startsWith('unix:')) {
    const socketPath = url.slice('unix:'.length)
    if (!isAbsolute(socketPath)) throw wrong('the path of a socket is absolute')
    return endpointOf({ socketPath })
  }
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (!parsed) throw wrong('not a URL')
  const { protocol, origin, hostname, port } = parsed
  if (protocol !== 'http:' && protocol !== 'https:') throw wrong('not http, https or unix')
  if (parsed.pathname !== '/' || parsed.search || parsed.hash) throw wrong('it has a path')
  if (parsed.username || parsed.password) throw wrong('it has a user')
  const host = hostname.replace(/^\[|\]$/g, '')
  const listenOn = { host, port: Number(port || (protocol === 'http:' ? 80 : 443)) }
  return { origin, listenOn, address: origin }
}

class Fixed implements FixedProvider {
  readonly name = 'static'
  readonly capabilities: ReadonlySet<Capability> = new Set()
  readonly limit: number
  /** Least recently used first. */
  readonly #free: Endpoint[]
  readonly #connect: FixedOptions['connect']

  constructor(endpoints: readonly Endpoint[], connect: FixedOptions['connect']) {
    this.limit = endpoints.length
    this.#free = [...endpoints]
    this.#connect = connect
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    signal.throwIfAborted()
    const endpoint = this.#free.shift()
    if (!endpoint) {
      throw new ManyhostError(
        'MANYHOST_START_FAILED',
        `instance ${spec.id} was not started: there are only ${this.limit} addresses, all in use`,
        { service: spec.service },
      )
    }
    return new Lease(spec, endpoint, this.#connect, () => this.#free.push(endpoint))
  }
}

/** An address for as long as it is in use. */
class Lease implements Running {
  readonly dispatcher: Pool
  readonly exited: Promise<Exit>
  readonly address: string
  readonly #endpoint: Endpoint
  readonly #spec: StartSpec
  readonly #release: () => void
  readonly #grace = new Grace(() => void this.dispatcher.destroy(this.#stopped()))
  #setExited: (exit: Exit) => void = () => {}
  #gone: Promise<void> | undefined

  constructor(
    spec: StartSpec,
    endpoint: Endpoint,
    connect: FixedOptions['connect'],
    release: () => void,
  ) {
    this.#spec = spec
    this.#endpoint = endpoint
    this.#release = release
    this.address = endpoint.address
    this.dispatcher = openPool(endpoint, spec.concurrency, connect)
    this.exited = new Promise((resolve) => {
      this.#setExited = resolve
    })
  }

  accepts(signal: AbortSignal): Promise<void> {
    return knock(this.#endpoint, signal)
  }

  /** What is in flight may end within `grace`. */
  stop(grace: number): Promise<void> {
    this.#gone ??= this.#end()
    this.#grace.shorten(grace)
    return this.#gone
  }

  async #end(): Promise<void> {
    // Rejects when the grace is over first: then it is destroyed, and as good as closed.
    await this.dispatcher.close().catch(() => {})
    this.#grace.cancel()
    this.#setExited({ reason: 'stopped', detail: 'stopped' })
    this.#release()
  }

  #stopped(): ManyhostError {
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${id} ended: stopped`, {
      service,
    })
  }
}

function quote(value: unknown): string {
  return JSON.stringify(value) ?? String(value)
}

function invalid(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}
