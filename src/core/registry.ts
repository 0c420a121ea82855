/**
 * Finds the service of a URL. A virtual URL matches by scheme and host, by its port if it has one (without a port it matches
 * any port), and by the longest path prefix.
 */
import { describe } from './describe.ts'
import { ManyhostError } from './errors.ts'

/** A virtual URL in its normal form. */
export interface VirtualUrl {
  /** The whole URL: `http://calc`, `http://calc:81/v2`. */
  readonly href: string
  /** `http://calc` or `http://calc:81`. */
  readonly origin: string
  /** `calc` or `calc:81`. */
  readonly host: string
  /** `''` or `/v2`, without a slash at the end. */
  readonly prefix: string
}

/** @throws ManyhostError MANYHOST_INVALID_URL */
export function parseVirtualUrl(text: string | URL): VirtualUrl {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw invalidUrlError(text, 'an absolute URL such as http://calc')
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw invalidUrlError(text, 'a URL of scheme http or https')
  }
  if (url.username !== '' || url.password !== '')
    throw invalidUrlError(text, 'a URL without user or password')
  if (url.search !== '' || url.hash !== '')
    throw invalidUrlError(text, 'a URL without query or fragment')
  const prefix = url.pathname.replace(/\/+$/, '')
  return { href: url.origin + prefix, origin: url.origin, host: url.host, prefix }
}

function invalidUrlError(got: unknown, expected: string): ManyhostError {
  return new ManyhostError(
    'MANYHOST_INVALID_URL',
    `url: expected ${expected}, got ${got instanceof URL ? got.href : describe(got)}`,
  )
}

interface RegistryEntry<Service> {
  readonly url: VirtualUrl
  readonly service: Service
}

export class ServiceRegistry<Service> {
  /** Per origin, longest prefix first. */
  readonly #origins = new Map<string, RegistryEntry<Service>[]>()

  /** @throws ManyhostError MANYHOST_DUPLICATE_SERVICE */
  add(url: VirtualUrl, make: () => Service): Service {
    const entries = this.#origins.get(url.origin) ?? []
    if (entries.some((entry) => entry.url.prefix === url.prefix)) {
      throw new ManyhostError(
        'MANYHOST_DUPLICATE_SERVICE',
        `url: a service for ${url.href} exists already`,
        { service: url.href },
      )
    }
    const service = make()
    entries.push({ url, service })
    entries.sort((a, b) => b.url.prefix.length - a.url.prefix.length)
    this.#origins.set(url.origin, entries)
    return service
  }

  /** Replaces a service by another one, between two requests. */
  replace(url: VirtualUrl, service: Service): void {
    const entries = this.#origins.get(url.origin) ?? []
    const index = entries.findIndex((entry) => entry.url.prefix === url.prefix)
    if (index >= 0) entries[index] = { url, service }
  }

  remove(url: VirtualUrl): void {
    const entries = this.#origins.get(url.origin) ?? []
    const left = entries.filter((entry) => entry.url.prefix !== url.prefix)
    if (left.length > 0) this.#origins.set(url.origin, left)
    else this.#origins.delete(url.origin)
  }

  /** The service that was registered with exactly this URL. */
  get(url: VirtualUrl): Service | undefined {
    return this.#origins.get(url.origin)?.find((entry) => entry.url.prefix === url.prefix)?.service
  }

  /** The service that answers `path` of `origin` (normal form, as `URL.origin` gives it). */
  match(origin: string, path: string): Service | undefined {
    const entries = this.#origins.get(origin)
    const found = entries && findByLongestPrefix(entries, path)
    if (found !== undefined) return found
    // A virtual URL without a port is for any port.
    const colon = origin.lastIndexOf(':')
    if (colon <= 5) return undefined
    const portless = this.#origins.get(origin.slice(0, colon))
    return portless && findByLongestPrefix(portless, path)
  }

  *values(): IterableIterator<Service> {
    for (const entries of this.#origins.values()) for (const { service } of entries) yield service
  }

  /** All virtual URLs, for messages. */
  hrefs(): string[] {
    return [...this.#origins.values()].flatMap((entries) => entries.map(({ url }) => url.href))
  }
}

function findByLongestPrefix<Service>(
  entries: readonly RegistryEntry<Service>[],
  path: string,
): Service | undefined {
  for (const { url, service } of entries) if (hasPathPrefix(path, url.prefix)) return service
  return undefined
}

function hasPathPrefix(path: string, prefix: string): boolean {
  if (prefix === '') return true
  if (!path.startsWith(prefix)) return false
  const next = path.charCodeAt(prefix.length)
  // The prefix must end before '/', '?' or the end: /v2 is no prefix of /v20.
  return Number.isNaN(next) || next === 47 || next === 63
}
