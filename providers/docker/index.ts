/** Runs instances as containers of Docker or Podman, on one engine or spread over several. */
import { randomBytes } from 'node:crypto'
import { asError, ManyhostError } from '../../src/core/errors.ts'
import type { Capability, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { resolveWithin } from '../../src/core/time.ts'
import { processIdentity } from '../../src/posix/identity.ts'
import { containerCwd } from '../shared/container-cwd.ts'
import { listenEnvironment } from '../shared/endpoint.ts'
import { type Reservation, reservePort } from '../shared/ports.ts'
import { defaultSocketUrl, parseDockerAddress } from './address.ts'
import { buildContainerBody } from './container-body.ts'
import { DockerEngine, isDockerUnreachable } from './engine.ts'
import { fetchImage } from './images.ts'
import { DockerInstance } from './instance.ts'
import { INSTANCE_LABEL, OWNER_LABEL, SERVICE_LABEL, SESSION_LABEL } from './labels.ts'
import { type DockerOptions, type DockerSettings, parseDockerOptions } from './options.ts'
import { sweepContainers } from './sweep.ts'

export type { DockerOptions } from './options.ts'

/** How long `close` waits for the end of all instances, in ms. */
const CLOSE_TIMEOUT = 30_000
/** How long a start waits for an engine that cannot be reached, if there is no other engine, in ms. */
const START_RETRY_MS = 120_000
/** How long a start waits for an engine that cannot be reached, before it tries another engine, in ms. */
const OTHER_ENGINE_RETRY_MS = 1_000

/**
 * Runs instances as containers of Docker. Needs the package `dockerode`.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function docker(options: DockerOptions = {}): Provider {
  return new DockerProvider('docker', options)
}

/**
 * Runs instances as containers of Podman, by the same API. Needs the package `dockerode`, and
 * `podman system service` to run.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function podman(options: DockerOptions = {}): Provider {
  return new DockerProvider('podman', options)
}

class DockerProvider implements Provider {
  readonly name: 'docker' | 'podman'
  readonly capabilities: ReadonlySet<Capability> = new Set([
    'command',
    'function',
    'image',
    'resources',
  ])
  readonly #settings: DockerSettings
  readonly #session = randomBytes(8).toString('hex')
  readonly #owner: string
  readonly #engines: readonly DockerEngine[]
  readonly #instances = new Set<DockerInstance>()
  readonly #swept = new Map<DockerEngine, Promise<void>>()
  readonly #ports = new Set<number>()
  #isClosed = false

  constructor(name: 'docker' | 'podman', options: DockerOptions) {
    this.name = name
    this.#settings = parseDockerOptions(name, options)
    this.#owner = this.#settings.owner ?? processIdentity()
    const given = name === 'docker' ? process.env.DOCKER_HOST : process.env.CONTAINER_HOST
    const hosts = this.#settings.hosts ?? [given || defaultSocketUrl(name)]
    this.#engines = hosts.map(
      (url) => new DockerEngine(parseDockerAddress(url, this.#settings.certs), this.#session),
    )
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    const image = spec.image ?? this.#settings.image
    if (image === undefined) {
      throw new ManyhostError(
        'MANYHOST_UNSUPPORTED',
        `${spec.service} needs an image to run in a container: set image at the service or at the provider`,
        { service: spec.service },
      )
    }
    if (this.#isClosed) {
      throw new ManyhostError('MANYHOST_SESSION_CLOSED', `the provider ${this.name} is closed`)
    }
    const tried = new Set<DockerEngine>()
    for (;;) {
      const engine = pickEngine(this.#engines.filter((one) => !tried.has(one))) as DockerEngine
      tried.add(engine)
      const isLast = tried.size === this.#engines.length
      try {
        return await this.#startOn(engine, image, spec, signal, isLast)
      } catch (error) {
        if (isLast || signal.aborted || !isDockerUnreachable(asError(error))) throw error
      }
    }
  }

  async #startOn(
    engine: DockerEngine,
    image: string,
    spec: StartSpec,
    signal: AbortSignal,
    isLast: boolean,
  ): Promise<Running> {
    engine.numInstances++
    let reservation: Reservation | undefined
    const release = (): void => {
      engine.numInstances--
      reservation?.release()
    }
    let instance: DockerInstance
    try {
      this.#sweepOnce(engine)
      if (this.#settings.network === 'host') reservation = await this.#reservePort(engine)
      instance = this.#createInstance(engine, image, spec, { reservation, release })
    } catch (error) {
      release()
      throw error
    }
    this.#instances.add(instance)
    void instance.gone.then(() => this.#instances.delete(instance))
    try {
      if (this.#settings.pull === 'always') {
        await fetchImage(engine, image, this.#settings.auth, signal)
      }
      await instance.begin(signal, isLast ? START_RETRY_MS : OTHER_ENGINE_RETRY_MS)
      if (this.#isClosed)
        throw new ManyhostError('MANYHOST_SESSION_CLOSED', 'the provider is closed')
      return instance
    } catch (error) {
      const stopped = instance.stop(0)
      // If the engine cannot be reached, the removal goes on in the background.
      await resolveWithin(engine.isUnreachable ? 0 : CLOSE_TIMEOUT, stopped)
      throw error
    }
  }

  #createInstance(
    engine: DockerEngine,
    image: string,
    spec: StartSpec,
    { reservation, release }: { reservation: Reservation | undefined; release: () => void },
  ): DockerInstance {
    const { address } = engine
    const settings = this.#settings
    const engineHost = address.host ?? '127.0.0.1'
    const reserved = reservation?.listenOn as { host: string; port: number } | undefined
    const listenOn = reserved ?? { host: '0.0.0.0', port: settings.port }
    const publish = reserved
      ? undefined
      : (settings.publish ?? (address.host ? '0.0.0.0' : engineHost))
    const env = {
      ...settings.env,
      ...spec.env,
      ...listenEnvironment(listenOn),
      MANYHOST_INSTANCE: spec.id,
    }
    const body = buildContainerBody({
      spec,
      settings,
      image,
      name: `manyhost-${spec.id}`,
      labels: {
        [SESSION_LABEL]: this.#session,
        [INSTANCE_LABEL]: spec.id,
        [SERVICE_LABEL]: spec.service,
        [OWNER_LABEL]: this.#owner,
      },
      env,
      listenOn,
      publish,
    })
    const isSpecific = publish !== undefined && publish !== '0.0.0.0' && publish !== '::'
    return new DockerInstance(spec, {
      engine,
      body,
      env,
      cwd: containerCwd(spec, settings),
      listenOn,
      reachedAt: { host: isSpecific ? publish : engineHost, port: reserved?.port },
      fetchImage:
        settings.pull === 'never'
          ? undefined
          : (signal) => fetchImage(engine, image, settings.auth, signal),
      onGone: release,
    })
  }

  /** For the network of the host. Only the server itself can find out whether a port of another machine is free. */
  async #reservePort({ address }: DockerEngine): Promise<Reservation> {
    const { ports } = this.#settings
    if (address.host === undefined) return reservePort(this.#settings.publish ?? '127.0.0.1', ports)
    const [from, to] = ports
    const count = to - from + 1
    const start = Math.floor(Math.random() * count)
    for (let i = 0; i < count; i++) {
      const port = from + ((start + i) % count)
      if (this.#ports.has(port)) continue
      this.#ports.add(port)
      const listenOn = { host: this.#settings.publish ?? '0.0.0.0', port }
      return { listenOn, release: () => this.#ports.delete(port) }
    }
    const text = `no free port in ${from}..${to}; option \`ports\` sets the range`
    throw new ManyhostError('MANYHOST_START_FAILED', text)
  }

  /** Runs once for each engine, while the first instance starts. If it fails, the next start tries it again. */
  #sweepOnce(engine: DockerEngine): void {
    if (this.#settings.adopt === 'keep' || this.#swept.has(engine)) return
    const self = { session: this.#session, owner: this.#settings.owner }
    const done = sweepContainers(engine, self).catch(() => void this.#swept.delete(engine))
    this.#swept.set(engine, done)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    const all = [...this.#instances].map((instance) => instance.stop(0))
    await resolveWithin(CLOSE_TIMEOUT, Promise.all([...all, ...this.#swept.values()]))
    for (const engine of this.#engines) engine.close()
  }
}

/** The least loaded engine of those that can be reached; if none can be reached, of all. */
function pickEngine(engines: readonly DockerEngine[]): DockerEngine | undefined {
  const reachable = engines.filter(({ isUnreachable }) => !isUnreachable)
  const candidates = reachable.length > 0 ? reachable : engines
  return candidates.reduce<DockerEngine | undefined>(
    (best, one) => (best && best.numInstances <= one.numInstances ? best : one),
    undefined,
  )
}
