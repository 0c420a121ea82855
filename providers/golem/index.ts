/** Instances on machines that are rented on the Golem market, reached through its private network. */
import { ManyhostError } from '../../src/core/errors.ts'
import type { Capability, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { within } from '../../src/core/time.ts'
import { openPool } from '../endpoint.ts'
import { Instance } from './instance.ts'
import { Market, type Rented } from './market.ts'
import { type GolemOptions, parseGolem, type Settings } from './options.ts'
import { connectBy, knock, type Way } from './tunnel.ts'
import { Unit } from './unit.ts'

export type { GolemOptions } from './options.ts'

/** How long the end of all instances is waited for in `close`, in ms. */
const CLOSE_PATIENCE = 60_000

/**
 * Rents a machine for each instance, on the Golem market. Needs the packages `@golem-sdk/golem-js` and `ws`, a yagna
 * daemon that runs, and its app key in YAGNA_APPKEY. It was never tried against the real market; see docs/golem.md.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function golem(options: GolemOptions): Provider {
  return new GolemProvider(options)
}

class GolemProvider implements Provider {
  readonly name = 'golem'
  readonly capabilities: ReadonlySet<Capability> = new Set([
    'command',
    'function',
    'image',
    'resources',
  ])
  readonly #settings: Settings
  readonly #market: Market
  /** Instances, and starts that are under way, by service. */
  readonly #taken = new Map<string, number>()
  readonly #instances = new Set<Instance>()
  readonly #starts = new Set<Promise<unknown>>()
  readonly #closing = new AbortController()

  constructor(options: GolemOptions) {
    this.#settings = parseGolem(options)
    this.#market = new Market(this.#settings)
  }

  available(service: string): number {
    let others = 0
    for (const [name, count] of this.#taken) if (name !== service) others += count
    return Math.max(0, this.#settings.maxInstances - others)
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    const image = spec.image ?? this.#settings.image
    if (image === undefined) {
      throw new ManyhostError(
        'MANYHOST_UNSUPPORTED',
        `${spec.service} needs an image to run on Golem: its own, or the provider's`,
        { service: spec.service },
      )
    }
    if (this.#closing.signal.aborted) throw this.#closing.signal.reason
    const taken = [...this.#taken.values()].reduce((sum, count) => sum + count, 0)
    if (taken >= this.#settings.maxInstances) {
      const text = `golem: maxInstances ${this.#settings.maxInstances} are there already`
      throw new ManyhostError('MANYHOST_START_FAILED', text, { service: spec.service })
    }
    this.#take(spec.service, 1)
    const started = this.#start(image, spec, AbortSignal.any([signal, this.#closing.signal]))
    const done = started.catch(() => {})
    this.#starts.add(done)
    void done.then(() => this.#starts.delete(done))
    return started
  }

  #take(service: string, more: 1 | -1): void {
    const count = (this.#taken.get(service) ?? 0) + more
    if (count > 0) this.#taken.set(service, count)
    else this.#taken.delete(service)
  }

  async #start(image: string, spec: StartSpec, signal: AbortSignal): Promise<Running> {
    const { service, resources } = spec
    let instance: Instance
    try {
      const { cpus, memory } = resources ?? {}
      const rented = await this.#market.rent({ service, image, cpus, memory }, signal)
      instance = await this.#place(spec, rented)
    } catch (error) {
      this.#take(service, -1)
      throw error
    }
    this.#instances.add(instance)
    void instance.gone.then(() => {
      this.#instances.delete(instance)
      this.#take(service, -1)
    })
    try {
      await instance.begin(signal)
      return instance
    } catch (error) {
      await within(CLOSE_PATIENCE, instance.stop(0))
      throw error
    }
  }

  async #place(spec: StartSpec, rented: Rented): Promise<Instance> {
    const { port, listen, env, cwd, volume, watch, drainBefore, lostAfter } = this.#settings
    const { key } = this.#market
    const packages = await this.#market.packages()
    const ip = rented.exe.getIp()
    const way = (): Way => ({ uri: rented.exe.getWebsocketUri(port), key })
    const address = `http://${ip}:${port}`
    const listenOn = { host: listen === 'address' ? ip : '0.0.0.0', port }
    const endpoint = { origin: address, listenOn: { host: ip, port }, address }
    return new Instance(spec, {
      rented,
      unit: new Unit(rented, spec.id, { key, lostAfter }),
      listenOn,
      address: `${address} at ${rented.name}`,
      dispatcher: openPool(endpoint, spec, connectBy(packages, way) as never),
      env,
      cwd: spec.cwd ?? cwd,
      volume,
      watch,
      drainBefore,
      accepts: (signal) => knock(packages, way(), signal),
    })
  }

  async close(): Promise<void> {
    if (!this.#closing.signal.aborted) {
      this.#closing.abort(
        new ManyhostError('MANYHOST_SESSION_CLOSED', 'the provider golem is closed'),
      )
    }
    const all = [...this.#instances].map((instance) => instance.stop(0))
    await within(CLOSE_PATIENCE, Promise.all([...all, ...this.#starts]))
    await this.#market.close()
  }
}
