/** Looks up the addresses of a name in DNS again and again: its A and AAAA records, or its SRV records. */
import { lookup, Resolver } from 'node:dns/promises'
import { describeError } from '../../src/core/errors.ts'
import { every, type Timer } from '../../src/core/time.ts'

export interface ResolvedAddress {
  readonly host: string
  readonly port: number
  /** The weight of the SRV record, relative to the smallest; 1 without SRV records. */
  readonly weight: number
}

export interface NameResolverOptions {
  /** A name, or `_service._proto.name` for SRV. */
  readonly name: string
  /** The port of all addresses; undefined for SRV, whose records have the ports. */
  readonly port: number | undefined
  /** Addresses of DNS servers; undefined for the resolver of the system, with its hosts file. */
  readonly servers: readonly string[] | undefined
  /** In ms. */
  readonly interval: number
}

/** Maximum number of addresses of one name that are used. */
const MAX_ADDRESSES = 1_000

export class NameResolver {
  readonly #options: NameResolverOptions
  readonly #resolver: Resolver | undefined
  readonly #onChange: (found: readonly ResolvedAddress[]) => void
  readonly #timer: Timer
  #resolving: Promise<void> | undefined
  /** Why the last lookup failed. The addresses of the lookup before it stay in use. */
  failure: string | undefined

  constructor(options: NameResolverOptions, onChange: (found: readonly ResolvedAddress[]) => void) {
    this.#options = options
    this.#onChange = onChange
    if (options.servers) {
      this.#resolver = new Resolver({ timeout: 2_000, tries: 2 })
      this.#resolver.setServers(options.servers)
    }
    this.#timer = every(options.interval, () => void this.resolve())
  }

  /** Never rejects. */
  resolve(): Promise<void> {
    this.#resolving ??= this.#lookUp()
      .then(
        (found) => {
          this.failure = undefined
          this.#onChange(found.slice(0, MAX_ADDRESSES))
        },
        (error: unknown) => {
          this.failure = `${this.#options.name}: ${describeError(error)}`
        },
      )
      .finally(() => {
        this.#resolving = undefined
      })
    return this.#resolving
  }

  async #lookUp(): Promise<ResolvedAddress[]> {
    const { name, port } = this.#options
    if (port !== undefined) {
      return (await this.#lookUpAddresses(name)).map((host) => ({ host, port, weight: 1 }))
    }
    const records = await (this.#resolver ?? new Resolver()).resolveSrv(name)
    // RFC 2782: records of a higher number of priority are only for the time when these cannot be reached.
    const lowest = Math.min(...records.map(({ priority }) => priority))
    const first = records.filter(({ priority }) => priority === lowest)
    const minWeight = Math.min(...first.map(({ weight }) => Math.max(1, weight)))
    const all = first.map(async (record) => {
      const hosts = await this.#lookUpAddresses(record.name)
      const weight = Math.max(1, record.weight) / minWeight
      return hosts.slice(0, 1).map((host) => ({ host, port: record.port, weight }))
    })
    return (await Promise.all(all)).flat()
  }

  async #lookUpAddresses(name: string): Promise<string[]> {
    const resolver = this.#resolver
    if (!resolver) {
      const all = await lookup(name, { all: true, order: 'ipv4first' })
      return [...new Set(all.map(({ address }) => address))].sort()
    }
    const [four, six] = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)])
    const found = [four, six].flatMap((one) => (one.status === 'fulfilled' ? one.value : []))
    // A server that does not answer is a failure. An answer without an address is none.
    if (found.length === 0 && four.status === 'rejected') throw four.reason
    return found.sort()
  }

  close(): void {
    this.#timer.clear()
    this.#resolver?.cancel()
  }
}
