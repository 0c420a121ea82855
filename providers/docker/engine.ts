/** One engine that answers the Docker API: its calls are bounded in time, and made again while it cannot be reached. */
import type Docker from 'dockerode'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import { resolveWithin, sleep } from '../../src/core/time.ts'
import { EngineCaller, type EngineCallOptions, isConnectionError } from '../shared/engine-caller.ts'
import type { DockerAddress } from './address.ts'
import type { DockerCaller } from './docker-caller.ts'
import { DockerEvents } from './events.ts'
import { createHttpAgent } from './http-agent.ts'

/** Longest time of one call, in ms. An engine that starts twenty containers at once answers slowly. */
const CALL_TIMEOUT = 60_000
/** How long a start waits for the stream of events of an engine that can be reached, in ms. */
const EVENTS_TIMEOUT = 10_000

export class DockerEngine implements DockerCaller {
  readonly address: DockerAddress
  readonly events: DockerEvents
  /** Instances that run on it, or start. */
  numInstances = 0
  readonly #agent: ReturnType<typeof createHttpAgent>
  readonly #caller = new EngineCaller({
    timeoutMs: CALL_TIMEOUT,
    isUnreachableError: isDockerUnreachable,
    createUnreachableError: (what, cause) => this.#createUnreachableError(what, cause),
  })
  #docker: Promise<Docker> | undefined

  constructor(address: DockerAddress, session: string) {
    this.address = address
    this.#agent = createHttpAgent(address.tls !== undefined)
    this.events = new DockerEvents(this, session)
  }

  /** Whether the last call did not reach the engine. */
  get isUnreachable(): boolean {
    return this.#caller.isUnreachable
  }

  /** @throws ManyhostError MANYHOST_UNSUPPORTED without dockerode */
  #open(): Promise<Docker> {
    this.#docker ??= loadDockerode().then((Made) => {
      const { socketPath, host, port, tls } = this.address
      // Each of these is set, because dockerode would otherwise take it from the environment.
      return new Made({
        socketPath,
        host,
        port,
        protocol: tls ? 'https' : 'http',
        ...tls,
        timeout: 0,
        pathPrefix: '/',
        agent: this.#agent,
      } as Docker.DockerOptions)
    })
    return this.#docker
  }

  async call<T>(
    what: string,
    action: (docker: Docker, abortSignal: AbortSignal) => Promise<T>,
    options: EngineCallOptions = {},
  ): Promise<T> {
    const docker = await this.#open()
    return this.#caller.call(what, (cut) => action(docker, cut), options)
  }

  #createUnreachableError(what: string, cause: Error): ManyhostError {
    const { code } = cause as NodeJS.ErrnoException
    const hint = code === 'ENOENT' || code === 'ECONNREFUSED' ? '; is the engine running?' : ''
    const text = `cannot ${what}: no answer from ${this.address.url}: ${describeError(cause)}${hint}`
    return new ManyhostError('MANYHOST_START_FAILED', text, { cause })
  }

  /**
   * Resolves when the events of the engine are followed.
   * @throws ManyhostError MANYHOST_START_FAILED when the engine cannot be reached
   */
  async connectEvents(options: EngineCallOptions): Promise<void> {
    if (this.events.isConnected) return
    // The stream of events is connected again and again, without an error. This call fails if the engine is not there.
    await this.call('reach the engine', (docker) => docker.ping(), options)
    await resolveWithin(EVENTS_TIMEOUT, this.events.whenConnected())
    options.signal?.throwIfAborted()
  }

  /** Removes a container by force. Resolves also if there is no such container. */
  async remove(container: string, options: EngineCallOptions = {}): Promise<void> {
    const remove = (): Promise<unknown> =>
      this.call(
        `remove ${container}`,
        (docker, abortSignal) =>
          docker.getContainer(container).remove({ force: true, v: true, abortSignal }),
        options,
      )
    for (let tries = 0; ; tries++) {
      try {
        await remove()
        return
      } catch (error) {
        const { statusCode } = error as { statusCode?: number }
        if (statusCode === 404) return
        // 409: the container is being removed already, or is paused. 500: its files are busy for a moment.
        if ((statusCode !== 409 && statusCode !== 500) || tries >= 20) throw error
        const unpause = (docker: Docker) => docker.getContainer(container).unpause()
        await this.call('unpause', unpause, { retryMs: 0 }).catch(() => undefined)
        await sleep(50 + 25 * tries)
      }
    }
  }

  close(): void {
    this.#caller.close()
    this.events.close()
    this.#agent.destroy()
  }
}

export function isDockerUnreachable(error: Error): boolean {
  if (error instanceof ManyhostError)
    return error.cause instanceof Error && isDockerUnreachable(error.cause)
  const { code, statusCode } = error as { code?: string; statusCode?: number }
  if (statusCode !== undefined) return statusCode === 502 || statusCode === 503
  // ENOENT: the file of the engine's socket does not exist.
  return isConnectionError(error) || code === 'ENOENT'
}

async function loadDockerode(): Promise<typeof Docker> {
  try {
    return (await import('dockerode')).default
  } catch (cause) {
    throw new ManyhostError(
      'MANYHOST_UNSUPPORTED',
      'containers need the package dockerode: npm install dockerode',
      { cause },
    )
  }
}
