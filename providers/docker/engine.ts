/**
 * One engine that answers the Docker API, and what it takes to rely on it: each call is bounded in time, and one that
 * could not reach the engine is made again while somebody waits for it. So a call must be one that may be made twice.
 */
import type Docker from 'dockerode'
import { asError, describe, ManyhostError } from '../../src/errors.ts'
import { now, sleep, within } from '../../src/time.ts'
import type { Address } from './address.ts'
import { openAgent } from './agent.ts'
import { Events } from './events.ts'
import { fetchImage, type PullAuth } from './images.ts'

/** How long one call may take, in ms: an engine that starts twenty containers at once answers slowly. */
const CALL_TIMEOUT = 60_000
/** How long a call is made again for whom nobody waits, in ms. */
const PATIENCE = 60_000
/** How long the stream of events of an engine that can be reached is waited for, in ms. */
const EVENTS_PATIENCE = 10_000
/** Longest pause between two tries, in ms. */
const MAX_PAUSE = 500

const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOENT',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
])

export interface CallOptions {
  /** Who waits: when it is aborted, no further try is made. */
  readonly signal?: AbortSignal
  /** How long it is tried again while the engine cannot be reached, in ms. */
  readonly patience?: number
  /** How long each try may take, in ms. */
  readonly timeout?: number
}

export type Container = Docker.Container

export class Engine {
  readonly address: Address
  readonly events: Events
  /** Instances that it has or is about to have. */
  load = 0
  /** Whether the last call did not reach it. */
  isAway = false
  readonly #agent: ReturnType<typeof openAgent>
  readonly #closing = new AbortController()
  #wasReached = false
  #docker: Promise<Docker> | undefined

  constructor(address: Address, session: string) {
    this.address = address
    this.#agent = openAgent(address.tls !== undefined)
    this.events = new Events(this, session)
  }

  /** @throws ManyhostError MANYHOST_UNSUPPORTED without dockerode */
  #open(): Promise<Docker> {
    this.#docker ??= load().then((Made) => {
      const { socketPath, host, port, tls } = this.address
      // All that dockerode would else take from the environment is said here.
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

  /**
   * @throws ManyhostError MANYHOST_START_FAILED when the engine cannot be reached; otherwise what the engine says, as
   * an error with `statusCode`
   */
  async call<T>(
    what: string,
    action: (docker: Docker, abortSignal: AbortSignal) => Promise<T>,
    { signal, patience = PATIENCE, timeout = CALL_TIMEOUT }: CallOptions = {},
  ): Promise<T> {
    const docker = await this.#open()
    const begun = now()
    for (let pause = 20; ; pause = Math.min(2 * pause, MAX_PAUSE)) {
      try {
        const result = await this.#attempt(what, (cut) => action(docker, cut), timeout)
        this.isAway = false
        this.#wasReached = true
        return result
      } catch (thrown) {
        const error = asError(thrown)
        if (!isUnreachable(error)) throw error
        this.isAway = true
        const isOver = now() - begun >= patience || this.#closing.signal.aborted
        // One that was never there is a mistake in the options rather than a fault.
        if (isOver || signal?.aborted || !this.#wasReached) throw this.#unreachable(what, error)
        const ends = [this.#closing.signal, ...(signal ? [signal] : [])]
        await sleep(pause, AbortSignal.any(ends)).catch(() => undefined)
        if (signal?.aborted) throw this.#unreachable(what, error)
      }
    }
  }

  async #attempt<T>(
    what: string,
    action: (cut: AbortSignal) => Promise<T>,
    timeout: number,
  ): Promise<T> {
    const cut = new AbortController()
    const done = action(cut.signal).then((result) => ({ result }))
    try {
      const settled = await within(timeout, done)
      if (settled) return settled.result
    } catch (thrown) {
      // A connection that ends before the answer is told by its text alone.
      const error = asError(thrown) as NodeJS.ErrnoException
      if (/socket hang up|aborted/.test(error.message)) error.code ??= 'ECONNRESET'
      throw error
    }
    cut.abort()
    done.catch(() => undefined)
    throw Object.assign(new Error(`${what} took longer than ${timeout} ms`), { code: 'ETIMEDOUT' })
  }

  #unreachable(what: string, cause: Error): ManyhostError {
    const { code } = cause as NodeJS.ErrnoException
    const hint = code === 'ENOENT' || code === 'ECONNREFUSED' ? '; does the engine run?' : ''
    const text = `cannot ${what}: no answer from ${this.address.url}: ${describe(cause)}${hint}`
    return new ManyhostError('MANYHOST_START_FAILED', text, { cause })
  }

  /**
   * Resolves when no event is missed any more.
   * @throws ManyhostError MANYHOST_START_FAILED when the engine cannot be reached
   */
  async reach(options: CallOptions): Promise<void> {
    if (this.events.isConnected) return
    // The events are connected again and again; whether that has a chance is told by this.
    await this.call('reach the engine', (docker) => docker.ping(), options)
    await within(EVENTS_PATIENCE, this.events.connected())
    options.signal?.throwIfAborted()
  }

  /** @throws ManyhostError MANYHOST_START_FAILED */
  fetchImage(image: string, auth: PullAuth | undefined, signal: AbortSignal): Promise<void> {
    return fetchImage(this, image, auth, signal)
  }

  /** Removes it by force; one that is not there is fine. */
  async remove(container: string, options: CallOptions = {}): Promise<void> {
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
        // 409: it is being removed already, or is paused; 500: what it holds is busy for a moment.
        if ((statusCode !== 409 && statusCode !== 500) || tries >= 20) throw error
        const thaw = (docker: Docker) => docker.getContainer(container).unpause()
        await this.call('unpause', thaw, { patience: 0 }).catch(() => undefined)
        await sleep(50 + 25 * tries)
      }
    }
  }

  close(): void {
    this.#closing.abort()
    this.events.close()
    this.#agent.destroy()
  }
}

export function isUnreachable(error: Error): boolean {
  if (error instanceof ManyhostError)
    return error.cause instanceof Error && isUnreachable(error.cause)
  const { code, statusCode } = error as { code?: string; statusCode?: number }
  return UNREACHABLE.has(code ?? '') || statusCode === 502 || statusCode === 503
}

async function load(): Promise<typeof Docker> {
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
