/** Finds the service of a request by `Host`, or by the prefix of its path. */
import type { SessionCore } from '../session/session.ts'
import { parseRouteOptions, type RouteSettings } from './route-options.ts'

/** The virtual URL that a host or a path prefix stands for. The registry of the session finds its service. */
export interface GatewayRoute {
  /** Origin of the virtual URL, as in the registry of the session. */
  readonly origin: string
  /** Authority of the virtual URL: the instance gets it as `Host`. */
  readonly host: string
  /** The prefix that is removed from the path: `/calc`. */
  readonly strip: string
  /** What replaces it: the path of the virtual URL, if that has one and the option `path` names another prefix. */
  readonly prefix: string
}

export class GatewayRoutes {
  readonly #session: SessionCore
  readonly #options: ReadonlyMap<string, RouteSettings>
  readonly #hosts = new Map<string, GatewayRoute>()
  /** By prefixes of one segment, without the slash. */
  readonly #segments = new Map<string, GatewayRoute>()
  /** Prefixes of several segments by their first segment, the longest first. */
  readonly #multiSegment = new Map<string, (readonly [string, GatewayRoute])[]>()
  /** For paths that no other service has: the prefix `/`. */
  #catchAll: GatewayRoute | undefined
  readonly #unsubscribe: () => void
  #isStale = true

  constructor(session: SessionCore, options: ReadonlyMap<string, RouteSettings>) {
    this.#session = session
    this.#options = options
    this.#unsubscribe = session.on('cluster', ({ change }) => {
      if (change === 'added' || change === 'closed') this.#isStale = true
    })
  }

  /** @param host the `Host` header in any case; @param path path and query of the request target */
  find(host: string, path: string): GatewayRoute | undefined {
    if (this.#isStale) this.#build()
    return this.#byHost(host) ?? this.#byPath(path)
  }

  #byPath(path: string): GatewayRoute | undefined {
    const first = firstSegment(path)
    const candidates = this.#multiSegment.size > 0 ? this.#multiSegment.get(first) : undefined
    const found = candidates?.find(
      ([prefix]) => path.startsWith(prefix) && isSegmentEnd(path[prefix.length]),
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
    // Clients spell a host in few ways, so each spelling is remembered.
    if (found && this.#hosts.size < MAX_HOSTS) this.#hosts.set(host, found)
    return found
  }

  /** The options of a service, by the URL of its cluster. */
  optionsOf(url: string): RouteSettings {
    return this.#options.get(url) ?? DEFAULT_OPTIONS
  }

  /** URLs of services, for the message of a 404. */
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
    // Names from virtual URLs are added last, so that no service takes the name of another one by listing it in `hosts`.
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
    const matchedPrefix = (path ?? `/${hostname}`).replace(/\/+$/, '')
    const own = path === undefined || pathname === '/' ? '' : pathname
    const route = { origin, host, strip: strip ? matchedPrefix : '', prefix: strip ? own : '' }
    const first = firstSegment(matchedPrefix)
    if (matchedPrefix === '') this.#catchAll = route
    else if (matchedPrefix.length === first.length + 1) this.#segments.set(first, route)
    else {
      const others = this.#multiSegment.get(first) ?? []
      const all = [
        ...others.filter(([other]) => other !== matchedPrefix),
        [matchedPrefix, route] as const,
      ]
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

/** The path that the instance gets. */
export function instancePath({ strip, prefix }: GatewayRoute, path: string): string {
  if (strip === '' && prefix === '') return path
  const rest = path.slice(strip.length)
  // If nothing is left, or only a query, the path is a slash.
  return prefix + (rest.startsWith('/') || (prefix !== '' && rest === '') ? rest : `/${rest}`)
}

const DEFAULT_OPTIONS = parseRouteOptions('gateway', {})

/** Limit of remembered hosts, names and spellings together: clients choose the spellings. */
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
