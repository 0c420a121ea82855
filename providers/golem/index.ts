/** Runs instances on machines that are rented on the Golem market. They are reached through its private network. */
import { ManyhostError } from '../../src/core/errors.ts'
import type { Capability, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { resolveWithin } from '../../src/core/time.ts'
import { openPool } from '../shared/endpoint.ts'
import { GolemExeUnit } from './exe-unit.ts'
import { GolemInstance } from './instance.ts'
import { GolemMarket, type RentedMachine } from './market.ts'
import { type GolemOptions, type GolemSettings, parseGolemOptions } from './options.ts'
import { createTunnelConnector, type GolemTunnelAddress, tunnelProbe } from './tunnel.ts'

export type { GolemOptions } from './options.ts'

/** How long `close` waits for the end of all instances, in ms. */
const CLOSE_TIMEOUT = 60_000

/**
 * Rents a machine for each instance, on the Golem market. Needs the packages `@golem-sdk/golem-js` and `ws`, a running
 * yagna daemon, and its app key in YAGNA_APPKEY. It was never tried on the real market; see docs/golem.md.
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
  readonly #settings: GolemSettings
  readonly #market: GolemMarket
  /** Instances that run or start, by service. */
  readonly #numInstances = new Map<string, number>()
  readonly #instances = new Set<GolemInstance>()
  readonly #starts = new Set<Promise<unknown>>()
  readonly #closing = new AbortController()

  constructor(options: GolemOptions) {
    this.#settings = parseGolemOptions(options)
    this.#market = new GolemMarket(this.#settings)
  }

  available(service: string): number {
    let others = 0
    for (const [name, count] of this.#numInstances) if (name !== service) others += count
    return Math.max(0, this.#settings.maxInstances - others)
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    const image = spec.image ?? this.#settings.image
    if (image === undefined) {
      throw new ManyhostError(
        'MANYHOST_UNSUPPORTED',
        `${spec.service} needs an image to run on Golem: set image at the service or at the provider`,
        { service: spec.service },
      )
    }
    if (this.#closing.signal.aborted) throw this.#closing.signal.reason
    const { maxInstances } = this.#settings
    const running = [...this.#numInstances.values()].reduce((sum, count) => sum + count, 0)
    if (running >= maxInstances) {
      const text = `golem: no further instance was started: ${running} run already, and maxInstances is ${maxInstances}`
      throw new ManyhostError('MANYHOST_START_FAILED', text, { service: spec.service })
    }
    this.#countInstance(spec.service, 1)
    const started = this.#start(image, spec, AbortSignal.any([signal, this.#closing.signal]))
    const done = started.catch(() => {})
    this.#starts.add(done)
    void done.then(() => this.#starts.delete(done))
    return started
  }

  #countInstance(service: string, more: 1 | -1): void {
    const count = (this.#numInstances.get(service) ?? 0) + more
    if (count > 0) this.#numInstances.set(service, count)
    else this.#numInstances.delete(service)
  }

  async #start(image: string, spec: StartSpec, signal: AbortSignal): Promise<Running> {
    const { service, resources } = spec
    let instance: GolemInstance
    try {
      const { cpus, memory } = resources ?? {}
      const rented = await this.#market.rent({ service, image, cpus, memory }, signal)
      instance = await this.#createInstance(spec, rented)
    } catch (error) {
      this.#countInstance(service, -1)
      throw error
    }
    this.#instances.add(instance)
    void instance.gone.then(() => {
      this.#instances.delete(instance)
      this.#countInstance(service, -1)
    })
    try {
      await instance.begin(signal)
      return instance
    } catch (error) {
      await resolveWithin(CLOSE_TIMEOUT, instance.stop(0))
      throw error
    }
  }

  async #createInstance(spec: StartSpec, rented: RentedMachine): Promise<GolemInstance> {
    const { port, listen, env, cwd, volume, watch, drainBefore, lostAfter } = this.#settings
    const { key } = this.#market
    const packages = await this.#market.packages()
    const ip = rented.exe.getIp()
    const tunnel = (): GolemTunnelAddress => ({ uri: rented.exe.getWebsocketUri(port), key })
    const address = `http://${ip}:${port}`
    const listenOn = { host: listen === 'address' ? ip : '0.0.0.0', port }
    const endpoint = { origin: address, listenOn: { host: ip, port }, address }
    return new GolemInstance(spec, {
      rented,
      unit: new GolemExeUnit(rented, spec.id, { key, lostAfter }),
      listenOn,
      address: `${address} at ${rented.name}`,
      dispatcher: openPool(endpoint, spec, createTunnelConnector(packages, tunnel) as never),
      env,
      cwd: spec.cwd ?? cwd,
      volume,
      watch,
      drainBefore,
      accepts: (signal) => tunnelProbe(packages, tunnel(), signal),
    })
  }

  async close(): Promise<void> {
    if (!this.#closing.signal.aborted) {
      this.#closing.abort(
        new ManyhostError('MANYHOST_SESSION_CLOSED', 'the provider golem is closed'),
      )
    }
    const all = [...this.#instances].map((instance) => instance.stop(0))
    await resolveWithin(CLOSE_TIMEOUT, Promise.all([...all, ...this.#starts]))
    await this.#market.close()
  }
}
