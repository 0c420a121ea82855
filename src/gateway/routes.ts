/** Which service a request is for: by `Host`, or by the beginning of its path. */
import type { Session } from '../session/session.ts'
import type { ServiceDoor } from './doors.ts'

/** Where a path leads, as far as the name says. The session's registry then knows the service. */
export interface Route {
  /** Origin of the virtual URL, as the session's registry knows it. */
  readonly origin: string
  /** Authority of the virtual URL: what the instance gets as `Host`. */
  readonly host: string
  /** What is taken off the path's beginning: `/calc`. */
  readonly strip: string
  /** What comes in its place: the path of a virtual URL that has one and was named by a path of its own. */
  readonly prefix: string
}

export class Routes {
  readonly #session: Session
  readonly #doors: ReadonlyMap<string, ServiceDoor>
  readonly #hosts = new Map<string, Route>()
  /** By paths of one part, without the slash. */
  readonly #segments = new Map<string, Route>()
  /** By paths of several parts, those of one first part together, the longest first. */
  readonly #deep = new Map<string, (readonly [string, Route])[]>()
  /** Of all that is nobody else's. */
  #rest: Route | undefined
  readonly #unsubscribe: () => void
  #isStale = true

  constructor(session: Session, doors: ReadonlyMap<string, ServiceDoor>) {
    this.#session = session
    this.#doors = doors
    this.#unsubscribe = session.on('cluster', ({ change }) => {
      if (change === 'added' || change === 'closed') this.#isStale = true
    })
  }

  /** @param host the `Host` header, in whatever case; @param path the target's path and query */
  find(host: string, path: string): Route | undefined {
    if (this.#isStale) this.#build()
    return this.#byHost(host) ?? this.#byPath(path)
  }

  #byPath(path: string): Route | undefined {
    const first = firstSegment(path)
    const deep = this.#deep.size > 0 ? this.#deep.get(first) : undefined
    const found = deep?.find(([taken]) => path.startsWith(taken) && isEnd(path[taken.length]))
    return found?.[1] ?? this.#segments.get(first) ?? this.#rest
  }

  #byHost(host: string): Route | undefined {
    const exact = this.#hosts.get(host)
    if (exact) return exact
    const lower = host.toLowerCase()
    const colon = lower.lastIndexOf(':')
    const name = colon > lower.lastIndexOf(']') ? lower.slice(0, colon) : lower
    const found = this.#hosts.get(lower) ?? this.#hosts.get(name.replace(/\.$/, ''))
    // Clients write a host in few ways, each time the same.
    if (found && this.#hosts.size < MOST_HOSTS) this.#hosts.set(host, found)
    return found
  }

  /** How a service is reached; `url` as the cluster has it. */
  doorOf(url: string): ServiceDoor {
    return this.#doors.get(url) ?? NO_DOOR
  }

  /** Names of services, for a 404 that helps. */
  names(): string[] {
    return this.#session.clusters.slice(0, 20).map(({ url }) => url)
  }

  #build(): void {
    this.#isStale = false
    this.#hosts.clear()
    this.#segments.clear()
    this.#deep.clear()
    this.#rest = undefined
    const urls = this.#session.clusters.map(({ url }) => new URL(url))
    // Own names come last: no service takes another one's by listing it.
    for (const url of urls) for (const name of this.#door(url).hosts ?? []) this.#name(name, url)
    for (const url of urls) {
      this.#name(`${url.hostname}.localhost`, url)
      this.#name(url.host, url)
      this.#segment(url)
    }
  }

  #door(url: URL): ServiceDoor {
    return this.doorOf(hrefOf(url))
  }

  #name(name: string, { origin, host }: URL): void {
    this.#hosts.set(name.toLowerCase(), { origin, host, strip: '', prefix: '' })
  }

  #segment(url: URL): void {
    const { path, strip = true } = this.#door(url)
    if (path === false) return
    const { origin, host, hostname, pathname } = url
    const taken = (path ?? `/${hostname}`).replace(/\/+$/, '')
    const own = path === undefined || pathname === '/' ? '' : pathname
    const route = { origin, host, strip: strip ? taken : '', prefix: strip ? own : '' }
    const first = firstSegment(taken)
    if (taken === '') this.#rest = route
    else if (taken.length === first.length + 1) this.#segments.set(first, route)
    else {
      const others = this.#deep.get(first) ?? []
      const all = [...others.filter(([other]) => other !== taken), [taken, route] as const]
      this.#deep.set(
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
export function pathOf({ strip, prefix }: Route, path: string): string {
  if (strip === '' && prefix === '') return path
  const rest = path.slice(strip.length)
  // Nothing is left, or a query only.
  return prefix + (rest.startsWith('/') || (prefix !== '' && rest === '') ? rest : `/${rest}`)
}

const NO_DOOR: ServiceDoor = {}

/** Spellings of hosts that are remembered, with the names themselves: clients choose them. */
const MOST_HOSTS = 10_000

function hrefOf({ origin, pathname }: URL): string {
  return origin + pathname.replace(/\/+$/, '')
}

function isEnd(char: string | undefined): boolean {
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
