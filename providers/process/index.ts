/** Runs instances as child processes of this process. */
import { randomBytes } from 'node:crypto'
import { resolve } from 'node:path'
import { ManyhostError } from '../../src/core/errors.ts'
import type { Capability, ListenOn, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import { Containment } from '../../src/posix/containment.ts'
import { inheritedEnvironment } from '../../src/posix/environment.ts'
import { listenEnvironment } from '../shared/endpoint.ts'
import { type Reservation, reservePort, SocketFolder } from '../shared/ports.ts'
import { ProcessInstance } from './instance.ts'
import { type ProcessOptions, type ProcessSettings, parseProcessOptions } from './options.ts'

export type { ProcessOptions } from './options.ts'

/**
 * Runs instances on this machine. None of them outlives this process, however it ends.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function processes(options: ProcessOptions = {}): Provider {
  return new ProcessProvider(parseProcessOptions(options))
}

class ProcessProvider implements Provider {
  readonly name = 'process'
  readonly capabilities: ReadonlySet<Capability> = new Set([
    'command',
    'function',
    // A service that names an image for other providers runs here as well: this machine is the image.
    'image',
    'unix-socket',
  ])
  readonly #options: ProcessSettings
  readonly #marker = randomBytes(12).toString('hex')
  readonly #sockets = new SocketFolder(`manyhost-${this.#marker}`)
  readonly #containment = new Containment({
    mark: `MANYHOST_SESSION=${this.#marker}`,
    folder: this.#sockets.path,
  })
  readonly #instances = new Set<ProcessInstance>()

  constructor(options: ProcessSettings) {
    this.#options = options
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    if (!spec.command?.[0] && !spec.startup) {
      throw new ManyhostError(
        'MANYHOST_UNSUPPORTED',
        `${spec.service} needs a command or a startup function to run as a process`,
      )
    }
    const reservation = await this.#reserveAddress(spec)
    try {
      await this.#containment.ensure()
    } catch (error) {
      reservation.release()
      throw error
    }
    const instance = new ProcessInstance(spec, {
      reservation,
      scope: this.#containment.openScope([`MANYHOST_INSTANCE=${spec.id}`]),
      pipes: this.#containment.pipes,
      cwd: resolve(this.#options.cwd, spec.cwd ?? '.'),
      env: this.#buildEnvironment(spec, reservation.listenOn),
    })
    this.#instances.add(instance)
    void instance.gone.then(() => this.#instances.delete(instance))
    try {
      await instance.begin(signal)
      return instance
    } catch (error) {
      await instance.stop(0)
      throw error
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#instances].map((instance) => instance.stop(0)))
    await this.#containment.close()
    this.#sockets.remove()
  }

  async #reserveAddress(spec: StartSpec): Promise<Reservation> {
    const { listen, host, ports } = this.#options
    return (spec.listen ?? listen) === 'unix' ? this.#sockets.reserve() : reservePort(host, ports)
  }

  #buildEnvironment(spec: StartSpec, listenOn: ListenOn): Record<string, string> {
    const inherited = this.#options.inheritEnv ? inheritedEnvironment() : {}
    // These variables may say where this process itself listens.
    for (const name of ['HOST', 'PORT', 'SOCKET_PATH']) delete inherited[name]
    return {
      ...inherited,
      ...this.#options.env,
      ...spec.env,
      ...listenEnvironment(listenOn),
      // By these marks the guard finds processes that have left their process group.
      MANYHOST_SESSION: this.#marker,
      MANYHOST_INSTANCE: spec.id,
    }
  }
}
