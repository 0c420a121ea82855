/** Which service a request is for: by `Host`, or by the beginning of its path. */
import type { SessionCore } from '../session/session.ts'
import { parseRouteOptions, type RouteSettings } from './route-options.ts'

/** Where a path leads, as far as the name says. The session's registry then knows the service. */
export interface GatewayRoute {
  /** Origin of the virtual URL, as the session's registry knows it. */
  readonly origin: string
  /** Authority of the virtual URL: what the instance gets as `Host`. */
  readonly host: string
  /** What is taken off the path's beginning: `/calc`. */
  readonly strip: string
  /** What comes in its place: the path of a virtual URL that has one and was named by a path of its own. */
  readonly prefix: string
}

export class GatewayRoutes {
  readonly #session: SessionCore
  readonly #options: ReadonlyMap<string, RouteSettings>
  readonly #hosts = new Map<string, GatewayRoute>()
  /** By paths of one part, without the slash. */
  readonly #segments = new Map<string, GatewayRoute>()
  /** By paths of several parts, those of one first part together, the longest first. */
  readonly #multiSegment = new Map<string, (readonly [string, GatewayRoute])[]>()
  /** Of all that is nobody else's. */
  #catchAll: GatewayRoute | undefined
  readonly #unsubscribe: () => void
  #isStale = true

  constructor(session: SessionCore, doors: ReadonlyMap<string, RouteSettings>) {
    this.#session = session
    this.#options = doors
    this.#unsubscribe = session.on('cluster', ({ change }) => {
      if (change === 'added' || change === 'closed') this.#isStale = true
    })
  }

  /** @param host the `Host` header, in whatever case; @param path the target's path and query */
  find(host: string, path: string): GatewayRoute | undefined {
    if (this.#isStale) this.#build()
    return this.#byHost(host) ?? this.#byPath(path)
  }

  #byPath(path: string): GatewayRoute | undefined {
    const first = firstSegment(path)
    const deep = this.#multiSegment.size > 0 ? this.#multiSegment.get(first) : undefined
    const found = deep?.find(
      ([taken]) => path.startsWith(taken) && isSegmentEnd(path[taken.length]),
    )
    return found?.[1] ?? this.#segments.get(first) ?? this.#catchAll
  }

  #byHost(host: string): GatewayRoute | undefined {
    const exact = this.#hosts.get(host)
    if (exact) return exact
    const lower = host.toLowerCase()
    const colon = lower.lastIndexOf(':')
    const name = colon > lower.lastIndexOf(']') ? lower.slice(0, colon) : lower
    const found = this.#hosts.get(lower) ?? this.#hosts.get(name.replace(/\.$/, ''))
    // Clients write a host in few ways, each time the same.
    if (found && this.#hosts.size < MAX_HOSTS) this.#hosts.set(host, found)
    return found
  }

  /** How a service is reached; `url` as the cluster has it. */
  optionsOf(url: string): RouteSettings {
    return this.#options.get(url) ?? DEFAULT_OPTIONS
  }

  /** Names of services, for a 404 that helps. */
  serviceUrls(): string[] {
    return this.#session.clusters.slice(0, 20).map(({ url }) => url)
  }

  #build(): void {
    this.#isStale = false
    this.#hosts.clear()
    this.#segments.clear()
    this.#multiSegment.clear()
    this.#catchAll = undefined
    const urls = this.#session.clusters.map(({ url }) => new URL(url))
    // Own names come last: no service takes another one's by listing it.
    for (const url of urls)
      for (const name of this.#optionsOfUrl(url).hosts ?? []) this.#addHost(name, url)
    for (const url of urls) {
      this.#addHost(`${url.hostname}.localhost`, url)
      this.#addHost(url.host, url)
      this.#addPath(url)
    }
  }

  #optionsOfUrl(url: URL): RouteSettings {
    return this.optionsOf(normalizeUrl(url))
  }

  #addHost(name: string, { origin, host }: URL): void {
    this.#hosts.set(name.toLowerCase(), { origin, host, strip: '', prefix: '' })
  }

  #addPath(url: URL): void {
    const { path, strip } = this.#optionsOfUrl(url)
    if (path === false) return
    const { origin, host, hostname, pathname } = url
    const taken = (path ?? `/${hostname}`).replace(/\/+$/, '')
    const own = path === undefined || pathname === '/' ? '' : pathname
    const route = { origin, host, strip: strip ? taken : '', prefix: strip ? own : '' }
    const first = firstSegment(taken)
    if (taken === '') this.#catchAll = route
    else if (taken.length === first.length + 1) this.#segments.set(first, route)
    else {
      const others = this.#multiSegment.get(first) ?? []
      const all = [...others.filter(([other]) => other !== taken), [taken, route] as const]
      this.#multiSegment.set(
        first,
        all.toSorted(([a], [b]) => b.length - a.length),
      )
    }
  }

  close(): void {
    this.#unsubscribe()
  }
}

/** The path for the instance. */
export function instancePath({ strip, prefix }: GatewayRoute, path: string): string {
  if (strip === '' && prefix === '') return path
  const rest = path.slice(strip.length)
  // Nothing is left, or a query only.
  return prefix + (rest.startsWith('/') || (prefix !== '' && rest === '') ? rest : `/${rest}`)
}

const DEFAULT_OPTIONS = parseRouteOptions('gateway', {})

/** Spellings of hosts that are remembered, with the names themselves: clients choose them. */
const MAX_HOSTS = 10_000

function normalizeUrl({ origin, pathname }: URL): string {
  return origin + pathname.replace(/\/+$/, '')
}

function isSegmentEnd(char: string | undefined): boolean {
  return char === undefined || char === '/' || char === '?'
}

function firstSegment(path: string): string {
  let end = 1
  for (; end < path.length; end++) {
    const char = path.charCodeAt(end)
    if (char === 47 || char === 63) break
  }
  return path.slice(1, end)
}
