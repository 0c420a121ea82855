/** Instances that run already, started by somebody else: a start hands out an address, a stop takes it back. */
import { isAbsolute } from 'node:path'
import { buildConnector, type Pool } from 'undici'
import { ManyhostError } from '../src/core/errors.ts'
import { Emitter } from '../src/core/events.ts'
import type { Capability, Exit, Provider, Running, StartSpec } from '../src/core/provider.ts'
import { endpointOf, openPool, type ServerEndpoint, tcpProbe } from './shared/endpoint.ts'
import { guardConnect } from './shared/guarded-connect.ts'
import { NameResolver, type ResolvedAddress } from './shared/name-resolver.ts'
import { StopDeadline } from './shared/stop-deadline.ts'

export interface FixedUrl {
  readonly url: string
  /** Its places are the service's `concurrency` times this, one at least. @default 1 */
  readonly weight?: number
}

export interface FixedOptions {
  /**
   * `http://host:port`, `https://host:port` or `unix:/path/of.sock`; one instance each. `srv+http://_name._tcp.domain`
   * has one for each of its SRV records of the lowest priority, with their weights.
   */
  readonly urls: readonly (string | FixedUrl)[]
  /**
   * Milliseconds between two looks at what DNS says of the names in `urls`; each address is an instance of its own then,
   * and drains when it is not named any more. @default names are one instance each; for SRV records 5000
   */
  readonly resolve?: number
  /** Addresses of DNS servers, `host` or `host:port`. @default the system's own way */
  readonly servers?: readonly string[]
  /** How connections are made, TLS settings for instance: undici's option of that name. */
  readonly connect?: NonNullable<Pool.Options['connect']>
}

/** A provider of addresses that are there. */
export interface FixedProvider extends Provider {
  /** How many instances there can be; unknown until the names among them were resolved. */
  readonly limit: number | undefined
}

const OPTION_NAMES = ['urls', 'resolve', 'servers', 'connect']

/** Between two looks at SRV records, in ms. */
const SRV_INTERVAL = 5_000

/**
 * Serves from addresses that are there already. The servers are not touched.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function fixed(options: FixedOptions): FixedProvider {
  for (const name of Object.keys(options)) {
    if (!OPTION_NAMES.includes(name)) {
      throw invalidOption(`fixed has no option '${name}'; it has ${OPTION_NAMES.join(', ')}`)
    }
  }
  const { urls, connect, resolve, servers } = options
  if (!Array.isArray(urls) || urls.length === 0) {
    throw invalidOption(`urls must be a list of one or more URLs, got ${JSON.stringify(urls)}`)
  }
  if (connect !== undefined && !['object', 'function'].includes(typeof connect)) {
    throw invalidOption(`connect must be an object or a function, got ${JSON.stringify(connect)}`)
  }
  if (resolve !== undefined && !(Number.isFinite(resolve) && resolve >= 100)) {
    throw invalidOption(`resolve must be milliseconds from 100 up, got ${formatValue(resolve)}`)
  }
  if (
    servers !== undefined &&
    !(
      Array.isArray(servers) &&
      servers.length > 0 &&
      servers.every((one) => typeof one === 'string')
    )
  ) {
    throw invalidOption(`servers must be a list of addresses, got ${formatValue(servers)}`)
  }
  const sources = new Map<string, FixedSource>()
  for (const [index, url] of urls.entries()) {
    const source = parseFixedUrl(url, `urls[${index}]`)
    const key = `${source.isSrv ? 'srv+' : ''}${source.endpoint.address}`
    if (sources.has(key)) throw invalidOption(`urls[${index}] is there twice: ${source.url}`)
    sources.set(key, source)
  }
  return new StaticProvider([...sources.values()], options)
}

interface FixedSource {
  readonly url: string
  readonly endpoint: ServerEndpoint
  readonly weight: number
  readonly isSrv: boolean
}

function parseFixedUrl(given: unknown, option: string): FixedSource {
  const wrong = (why: string): ManyhostError =>
    invalidOption(
      `${option} must be like 'http://host:port' or 'unix:/path', got ${formatValue(given)}: ${why}`,
    )
  const isObject = typeof given === 'object' && given !== null
  const { url, weight = 1, ...others } = (isObject ? given : { url: given }) as FixedUrl
  if (Object.keys(others).length > 0) throw wrong('an object has url and weight')
  if (!(Number.isFinite(weight) && weight > 0)) throw wrong('its weight is not a number above 0')
  if (typeof url !== 'string') throw wrong('not a string')
  if (url.startsWith('unix:')) {
    const socketPath = url.slice('unix:'.length)
    if (!isAbsolute(socketPath)) throw wrong('the path of a socket is absolute')
    return { url, endpoint: endpointOf({ socketPath }), weight, isSrv: false }
  }
  const isSrv = url.startsWith('srv+')
  const parsed = URL.canParse(url.replace(/^srv\+/, ''))
    ? new URL(url.replace(/^srv\+/, ''))
    : undefined
  if (!parsed) throw wrong('not a URL')
  const { protocol, origin, hostname, port } = parsed
  if (protocol !== 'http:' && protocol !== 'https:') throw wrong('not http, https or unix')
  if (parsed.pathname !== '/' || parsed.search || parsed.hash) throw wrong('it has a path')
  if (parsed.username || parsed.password) throw wrong('it has a user')
  if (isSrv && port) throw wrong('the ports of SRV records are in the records')
  const host = hostname.replace(/^\[|\]$/g, '')
  const listenOn = { host, port: Number(port || (protocol === 'http:' ? 80 : 443)) }
  return { url, endpoint: { origin, listenOn, address: origin }, weight, isSrv }
}

/** One address that can be handed out. */
interface FixedAddress {
  readonly endpoint: ServerEndpoint
  readonly weight: number
  /** DNS does not name it any more. */
  isGone: boolean
  instance?: FixedInstance | undefined
}

class StaticProvider implements FixedProvider {
  readonly name = 'static'
  readonly capabilities: ReadonlySet<Capability> = new Set()
  readonly #addresses = new Set<FixedAddress>()
  /** Least recently used first. */
  readonly #freeAddresses: FixedAddress[] = []
  readonly #connect: FixedOptions['connect']
  readonly #resolvers: NameResolver[] = []
  readonly #events = new Emitter<{ available: undefined }>('provider static')
  #numUnresolved = 0
  #resolved: Promise<unknown> | undefined

  constructor(sources: readonly FixedSource[], { connect, resolve, servers }: FixedOptions) {
    this.#connect = typeof connect === 'function' ? guardConnect(connect) : connect
    for (const source of sources) {
      const { endpoint, weight, isSrv } = source
      const { host, port } = endpoint.listenOn
      const isName = host !== undefined && !/^[\d.]+$|:/.test(host)
      if (host === undefined || !(isSrv || (resolve !== undefined && isName))) {
        this.#add({ endpoint, weight, isGone: false })
        continue
      }
      const mine = new Map<string, FixedAddress>()
      this.#numUnresolved++
      const options = { name: host, port: isSrv ? undefined : port, servers }
      let isFirst = true
      const name = new NameResolver({ ...options, interval: resolve ?? SRV_INTERVAL }, (found) => {
        if (isFirst) this.#numUnresolved--
        isFirst = false
        this.#updateAddresses(mine, source, found)
      })
      this.#resolvers.push(name)
    }
  }

  get limit(): number | undefined {
    return this.#numUnresolved > 0 ? undefined : this.#addresses.size
  }

  onAvailable(listener: () => void): () => void {
    return this.#events.on('available', listener)
  }

  #add(slot: FixedAddress): void {
    this.#addresses.add(slot)
    this.#freeAddresses.push(slot)
  }

  /** New addresses may be used, gone ones drain. */
  #updateAddresses(
    mine: Map<string, FixedAddress>,
    source: FixedSource,
    found: readonly ResolvedAddress[],
  ): void {
    const now = new Map(found.map((one) => [`${one.host} ${one.port}`, one]))
    for (const [key, slot] of mine) {
      if (now.has(key)) continue
      mine.delete(key)
      this.#addresses.delete(slot)
      slot.isGone = true
      if (this.#freeAddresses.includes(slot))
        this.#freeAddresses.splice(this.#freeAddresses.indexOf(slot), 1)
      slot.instance?.announceLeaving(`${source.url} does not name it any more`)
    }
    const { protocol } = new URL(source.endpoint.origin)
    for (const [key, { host, port, weight }] of now) {
      if (mine.has(key)) continue
      const { address, listenOn } = endpointOf({ host, port })
      const endpoint = {
        // The name is what its certificate says.
        origin: protocol === 'https:' ? source.endpoint.origin : address,
        listenOn,
        address: address.replace('http:', protocol),
      }
      const slot = { endpoint, weight: weight * source.weight, isGone: false }
      mine.set(key, slot)
      this.#add(slot)
    }
    this.#events.emit('available', undefined)
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    signal.throwIfAborted()
    if (this.#resolvers.length > 0) {
      // Until all have answered once, each start asks again.
      if (this.#numUnresolved > 0)
        this.#resolved = Promise.all(this.#resolvers.map((name) => name.resolve()))
      await this.#resolved
      signal.throwIfAborted()
    }
    const slot = this.#freeAddresses.shift()
    if (!slot) {
      const why = this.#resolvers.flatMap(({ failure }) => failure ?? []).join('; ')
      throw new ManyhostError(
        'MANYHOST_START_FAILED',
        `instance ${spec.id} was not started: there are only ${this.#addresses.size} addresses, all in use${why && `; ${why}`}`,
        { service: spec.service },
      )
    }
    const lease = new FixedInstance(
      spec,
      slot.endpoint,
      slot.weight,
      this.#connectorFor(slot),
      () => {
        slot.instance = undefined
        if (!slot.isGone) this.#freeAddresses.push(slot)
      },
    )
    slot.instance = lease
    return lease
  }

  /** What was resolved is connected to by its address, whatever name its origin has. */
  #connectorFor({ endpoint: { origin, listenOn } }: FixedAddress): FixedOptions['connect'] {
    const { host } = listenOn
    const { hostname } = new URL(origin)
    if (host === undefined || hostname.replace(/^\[|\]$/g, '') === host) return this.#connect
    const given = this.#connect
    const connect = typeof given === 'function' ? given : buildConnector(given ?? {})
    return (options: buildConnector.Options, callback: buildConnector.Callback) =>
      connect(
        {
          ...options,
          hostname: host,
          port: String(listenOn.port),
          servername: options.servername ?? hostname,
        },
        callback,
      )
  }

  async close(): Promise<void> {
    for (const name of this.#resolvers) name.close()
  }
}

/** An address for as long as it is in use. */
class FixedInstance implements Running {
  readonly dispatcher: Pool
  readonly exited: Promise<Exit>
  readonly address: string
  readonly slots: number
  readonly leaving: Promise<string>
  readonly #endpoint: ServerEndpoint
  readonly #spec: StartSpec
  readonly #release: () => void
  readonly #stopDeadline = new StopDeadline(
    () => void this.dispatcher.destroy(this.#createStoppedError()),
  )
  #setExited: (exit: Exit) => void = () => {}
  #setLeaving: (why: string) => void = () => {}
  #stopping: Promise<void> | undefined

  constructor(
    spec: StartSpec,
    endpoint: ServerEndpoint,
    weight: number,
    connect: FixedOptions['connect'],
    release: () => void,
  ) {
    this.#spec = spec
    this.#endpoint = endpoint
    this.#release = release
    this.address = endpoint.address
    this.slots = Math.max(1, Math.round(spec.concurrency * weight))
    this.dispatcher = openPool(endpoint, { ...spec, concurrency: this.slots }, connect)
    this.leaving = new Promise((resolve) => {
      this.#setLeaving = resolve
    })
    this.exited = new Promise((resolve) => {
      this.#setExited = resolve
    })
  }

  /** It is to be used no more. */
  announceLeaving(why: string): void {
    this.#setLeaving(why)
  }

  accepts(signal: AbortSignal): Promise<void> {
    return tcpProbe(this.#endpoint, signal)
  }

  /** What is in flight may end within `grace`. */
  stop(grace: number): Promise<void> {
    this.#stopping ??= this.#end()
    this.#stopDeadline.shorten(grace)
    return this.#stopping
  }

  async #end(): Promise<void> {
    // Rejects when the grace is over first: then it is destroyed, and as good as closed.
    await this.dispatcher.close().catch(() => {})
    this.#stopDeadline.cancel()
    this.#setExited({ reason: 'stopped', detail: 'stopped' })
    this.#release()
  }

  #createStoppedError(): ManyhostError {
    const { id, service } = this.#spec
    return new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${id} ended: stopped`, {
      service,
    })
  }
}

function formatValue(value: unknown): string {
  return JSON.stringify(value) ?? String(value)
}

function invalidOption(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}
