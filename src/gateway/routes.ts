/** Which service a request is for: by `Host`, or by the first part of its path. */
import type { Session } from '../session.ts'
import type { ServiceDoor } from './options.ts'

export interface Route {
  /** Origin of the virtual URL, as the session's registry knows it. */
  readonly origin: string
  /** Authority of the virtual URL: what the instance gets as `Host`. */
  readonly host: string
  readonly door: ServiceDoor
  /** Length of what is taken off the path's beginning. */
  readonly strip: number
}

export class Routes {
  readonly #session: Session
  readonly #doors: ReadonlyMap<string, ServiceDoor>
  readonly #hosts = new Map<string, Route>()
  readonly #segments = new Map<string, Route>()
  readonly #unsubscribe: () => void
  #stale = true

  constructor(session: Session, doors: ReadonlyMap<string, ServiceDoor>) {
    this.#session = session
    this.#doors = doors
    this.#unsubscribe = session.on('cluster', ({ change }) => {
      if (change === 'added' || change === 'closed') this.#stale = true
    })
  }

  /** @param host the `Host` header, in whatever case; @param path the target's path and query */
  find(host: string, path: string): Route | undefined {
    if (this.#stale) this.#build()
    return this.#byHost(host) ?? this.#segments.get(firstSegment(path))
  }

  #byHost(host: string): Route | undefined {
    const exact = this.#hosts.get(host)
    if (exact) return exact
    const lower = host.toLowerCase()
    const colon = lower.lastIndexOf(':')
    return (
      this.#hosts.get(lower) ??
      (colon > lower.lastIndexOf(']') ? this.#hosts.get(lower.slice(0, colon)) : undefined)
    )
  }

  /** Names of all services, for a 404 that helps. */
  names(): string[] {
    return this.#session.clusters.map(({ url }) => url)
  }

  #build(): void {
    this.#stale = false
    this.#hosts.clear()
    this.#segments.clear()
    for (const { url } of this.#session.clusters) {
      const { origin, host, hostname, pathname } = new URL(url)
      const door = this.#doors.get(url) ?? NO_DOOR
      const route: Route = { origin, host, door, strip: 0 }
      const names = [host, `${hostname}.localhost`, ...(door.hosts ?? [])]
      for (const name of names) this.#hosts.set(name.toLowerCase(), route)
      if (door.path === false) continue
      const segment = (door.path ?? `/${hostname}`).replace(/^\/|\/$/g, '')
      const prefix = pathname === '/' ? segment.length + 1 : 0
      this.#segments.set(segment, { ...route, strip: door.strip === false ? 0 : prefix })
    }
  }

  close(): void {
    this.#unsubscribe()
  }
}

const NO_DOOR: ServiceDoor = {}

function firstSegment(path: string): string {
  let end = 1
  for (; end < path.length; end++) {
    const char = path.charCodeAt(end)
    if (char === 47 || char === 63) break
  }
  return path.slice(1, end)
}
