/** Uses servers that run already: a start hands out an address, and a stop takes it back. */
import { isAbsolute } from 'node:path'
import { buildConnector, type Pool } from 'undici'
import { describe } from '../src/core/describe.ts'
import { ManyhostError } from '../src/core/errors.ts'
import { Emitter } from '../src/core/events.ts'
import { parseOptions, rule } from '../src/core/options.ts'
import type { Capability, Exit, Provider, Running, StartSpec } from '../src/core/provider.ts'
import { endpointOf, openPool, type ServerEndpoint, tcpProbe } from './shared/endpoint.ts'
import { guardConnect } from './shared/guarded-connect.ts'
import { InstanceLifecycle } from './shared/instance-lifecycle.ts'
import { NameResolver, type ResolvedAddress } from './shared/name-resolver.ts'
import { atLeastRule, invalidOption } from './shared/option-rules.ts'
import { StopDeadline } from './shared/stop-deadline.ts'

export interface FixedUrl {
  readonly url: string
  /** The instance has `concurrency` times this many slots, at least one. @default 1 */
  readonly weight?: number
}

export interface FixedOptions {
  /**
   * `http://host:port`, `https://host:port` or `unix:/path/of.sock`; each is one instance. `srv+http://_name._tcp.domain`
   * gives one instance for each of its SRV records of the lowest priority, with their weights.
   */
  readonly urls: readonly (string | FixedUrl)[]
  /**
   * Interval at which the names in `urls` are looked up in DNS, in ms, from 100 up. Each address is then an instance of
   * its own, and drains when DNS does not give it any more.
   * @default each name is one instance; SRV records are looked up every 5000 ms
   */
  readonly resolve?: number
  /** Addresses of DNS servers, `host` or `host:port`. @default the resolver of the system */
  readonly servers?: readonly string[]
  /** How connections are made, for example TLS settings: undici's option of that name. */
  readonly connect?: NonNullable<Pool.Options['connect']>
}

/** A provider of servers that run already. */
export interface FixedProvider extends Provider {
  /** Maximum number of instances; undefined until all names were resolved. */
  readonly limit: number | undefined
}

/** Interval at which SRV records are looked up, in ms. */
const SRV_INTERVAL = 5_000

/** Every option with its range. */
const FIXED_RULES = {
  urls: rule<readonly unknown[]>('a list of one or more URLs', undefined, (value) =>
    Array.isArray(value) && value.length > 0 ? value : undefined,
  ),
  resolve: atLeastRule('milliseconds', 100),
  servers: rule<readonly string[]>('a list of addresses', undefined, (value) =>
    Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === 'string')
      ? value
      : undefined,
  ),
  connect: rule<NonNullable<FixedOptions['connect']>>(
    'an object or a function',
    undefined,
    (value) =>
      (typeof value === 'object' && value !== null) || typeof value === 'function'
        ? (value as NonNullable<FixedOptions['connect']>)
        : undefined,
  ),
} as const

/**
 * Uses servers that run already. The servers themselves are not touched.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function fixed(options: FixedOptions): FixedProvider {
  const parsed = parseOptions('fixed', options, FIXED_RULES)
  if (parsed.urls === undefined) {
    throw invalidOption("fixed: urls is missing: a list like ['http://host:port']")
  }
  const sources = new Map<string, FixedSource>()
  for (const [index, url] of parsed.urls.entries()) {
    const source = parseFixedUrl(url, `fixed: urls[${index}]`)
    const key = `${source.isSrv ? 'srv+' : ''}${source.endpoint.address}`
    if (sources.has(key)) {
      throw invalidOption(`fixed: urls[${index}] is the same as an earlier URL: ${source.url}`)
    }
    sources.set(key, source)
  }
  return new StaticProvider([...sources.values()], parsed)
}

interface FixedSource {
  readonly url: string
  readonly endpoint: ServerEndpoint
  readonly weight: number
  readonly isSrv: boolean
}

function parseFixedUrl(given: unknown, option: string): FixedSource {
  const refuse = (why: string): ManyhostError =>
    invalidOption(
      `${option} must be like 'http://host:port' or 'unix:/path', got ${describe(given)}: ${why}`,
    )
  const isObject = typeof given === 'object' && given !== null
  const { url, weight = 1, ...others } = (isObject ? given : { url: given }) as FixedUrl
  if (Object.keys(others).length > 0) throw refuse('an object has only url and weight')
  if (!(Number.isFinite(weight) && weight > 0)) throw refuse('its weight is not a number above 0')
  if (typeof url !== 'string') throw refuse('it is not a string')
  if (url.startsWith('unix:')) {
    const socketPath = url.slice('unix:'.length)
    if (!isAbsolute(socketPath)) throw refuse('the path of a socket must be absolute')
    return { url, endpoint: endpointOf({ socketPath }), weight, isSrv: false }
  }
  const isSrv = url.startsWith('srv+')
  const bare = url.replace(/^srv\+/, '')
  if (!URL.canParse(bare)) throw refuse('it is not a URL')
  const { protocol, origin, hostname, port, pathname, search, hash, username, password } = new URL(
    bare,
  )
  if (protocol !== 'http:' && protocol !== 'https:') throw refuse('it is not http, https or unix')
  if (pathname !== '/' || search || hash) throw refuse('it must not have a path')
  if (username || password) throw refuse('it must not have a user')
  if (isSrv && port) throw refuse('it must not have a port: SRV records give the ports')
  const host = hostname.replace(/^\[|\]$/g, '')
  const listenOn = { host, port: Number(port || (protocol === 'http:' ? 80 : 443)) }
  return { url, endpoint: { origin, listenOn, address: origin }, weight, isSrv }
}

/** One address that can be handed out. */
interface FixedAddress {
  readonly endpoint: ServerEndpoint
  readonly weight: number
  /** DNS does not give it any more. */
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

  constructor(
    sources: readonly FixedSource[],
    { connect, resolve, servers }: Omit<FixedOptions, 'urls'>,
  ) {
    this.#connect = typeof connect === 'function' ? guardConnect(connect) : connect
    for (const source of sources) {
      const { endpoint, weight, isSrv } = source
      const { host, port } = endpoint.listenOn
      const isName = host !== undefined && !/^[\d.]+$|:/.test(host)
      if (host === undefined || !(isSrv || (resolve !== undefined && isName))) {
        this.#add({ endpoint, weight, isGone: false })
        continue
      }
      const known = new Map<string, FixedAddress>()
      this.#numUnresolved++
      const options = { name: host, port: isSrv ? undefined : port, servers }
      let isFirst = true
      const resolver = new NameResolver(
        { ...options, interval: resolve ?? SRV_INTERVAL },
        (found) => {
          if (isFirst) this.#numUnresolved--
          isFirst = false
          this.#updateAddresses(known, source, found)
        },
      )
      this.#resolvers.push(resolver)
    }
  }

  get limit(): number | undefined {
    return this.#numUnresolved > 0 ? undefined : this.#addresses.size
  }

  onAvailable(listener: () => void): () => void {
    return this.#events.on('available', listener)
  }

  #add(address: FixedAddress): void {
    this.#addresses.add(address)
    this.#freeAddresses.push(address)
  }

  /** New addresses can be used from now on. Addresses that are gone drain. */
  #updateAddresses(
    known: Map<string, FixedAddress>,
    source: FixedSource,
    found: readonly ResolvedAddress[],
  ): void {
    const current = new Map(found.map((one) => [`${one.host} ${one.port}`, one]))
    for (const [key, address] of known) {
      if (current.has(key)) continue
      known.delete(key)
      this.#addresses.delete(address)
      address.isGone = true
      const at = this.#freeAddresses.indexOf(address)
      if (at >= 0) this.#freeAddresses.splice(at, 1)
      address.instance?.announceLeaving(`DNS does not give its address for ${source.url} any more`)
    }
    const { protocol } = new URL(source.endpoint.origin)
    for (const [key, { host, port, weight }] of current) {
      if (known.has(key)) continue
      const { address, listenOn } = endpointOf({ host, port })
      const endpoint = {
        // The certificate of the server is for the name, not for the address.
        origin: protocol === 'https:' ? source.endpoint.origin : address,
        listenOn,
        address: address.replace('http:', protocol),
      }
      const added = { endpoint, weight: weight * source.weight, isGone: false }
      known.set(key, added)
      this.#add(added)
    }
    this.#events.emit('available', undefined)
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    signal.throwIfAborted()
    if (this.#resolvers.length > 0) {
      // Each start asks again until all names were resolved once.
      if (this.#numUnresolved > 0)
        this.#resolved = Promise.all(this.#resolvers.map((resolver) => resolver.resolve()))
      await this.#resolved
      signal.throwIfAborted()
    }
    const address = this.#freeAddresses.shift()
    if (!address) {
      const why = this.#resolvers.flatMap(({ failure }) => failure ?? []).join('; ')
      throw new ManyhostError(
        'MANYHOST_START_FAILED',
        `instance ${spec.id} was not started: there are only ${this.#addresses.size} addresses, all in use${why && `; ${why}`}`,
        { service: spec.service },
      )
    }
    const instance = new FixedInstance(spec, address, this.#connectorFor(address), () => {
      address.instance = undefined
      if (!address.isGone) this.#freeAddresses.push(address)
    })
    address.instance = instance
    return instance
  }

  /** A connection to a resolved name goes to the resolved address, although the origin has the name. */
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
    for (const resolver of this.#resolvers) resolver.close()
  }
}

/** An address while it is in use. */
class FixedInstance implements Running {
  readonly dispatcher: Pool
  readonly address: string
  readonly slots: number
  readonly #lifecycle: InstanceLifecycle
  readonly #endpoint: ServerEndpoint
  readonly #release: () => void
  /** When the grace is over, the requests in flight fail with the MANYHOST_INSTANCE_ENDED of the lifecycle. */
  readonly #stopDeadline = new StopDeadline(
    () => void this.dispatcher.destroy(this.#lifecycle.signal.reason as ManyhostError),
  )

  /** @param release makes the address free again */
  constructor(
    spec: StartSpec,
    { endpoint, weight }: FixedAddress,
    connect: FixedOptions['connect'],
    release: () => void,
  ) {
    this.#lifecycle = new InstanceLifecycle(spec)
    this.#endpoint = endpoint
    this.#release = release
    this.address = endpoint.address
    this.slots = Math.max(1, Math.round(spec.concurrency * weight))
    this.dispatcher = openPool(endpoint, { ...spec, concurrency: this.slots }, connect)
  }

  get exited(): Promise<Exit> {
    return this.#lifecycle.exited
  }

  get leaving(): Promise<string> {
    return this.#lifecycle.leaving
  }

  announceLeaving(reason: string): void {
    this.#lifecycle.announceLeaving(reason)
  }

  accepts(signal: AbortSignal): Promise<void> {
    return tcpProbe(this.#endpoint, signal)
  }

  /** Requests in flight may end within `grace`. */
  stop(grace: number): Promise<void> {
    if (this.#lifecycle.requestStop()) void this.#end()
    this.#stopDeadline.shorten(grace)
    return this.#lifecycle.gone
  }

  async #end(): Promise<void> {
    // Rejects if the stop deadline destroys the pool first: then it is closed as well.
    await this.dispatcher.close().catch(() => {})
    this.#stopDeadline.cancel()
    // Before `exited` resolves, because the instance that takes its place may need this address.
    this.#release()
    this.#lifecycle.markEnded({ reason: 'stopped', detail: 'stopped' }, () =>
      this.#lifecycle.markGone(),
    )
  }
}
