/** An instance on the agent's own machine, in the care of its local provider, on behalf of a hub. */
import { describe, ManyhostError } from '../../src/core/errors.ts'
import type {
  Exit,
  ListenOn,
  Provider,
  Running,
  StartSpec,
  StartupContext,
} from '../../src/core/provider.ts'
import { checkRunning, exitOf } from '../../src/core/running.ts'
import { Outflow } from './outflow.ts'
import { fields, text, textFields, texts } from './said.ts'
import { type Door, doorOf } from './splice.ts'

/** Its way to the hub, which may be gone for a while. */
export interface Reports {
  log(id: string, text: string): Promise<void>
  /** Runs the service's function at the hub; resolves when it is through. */
  startup(id: string, where: ListenOn, env: Record<string, string>): Promise<void>
  /** It has ended, and all that it wrote was sent if it could be. */
  ended(guest: Guest): void
}

export class Guest {
  readonly id: string
  exit: Exit | undefined
  door: Door | undefined
  readonly #abort = new AbortController()
  readonly #outflow: Outflow
  readonly #reports: Reports
  #context: StartupContext | undefined
  #running: Running | undefined
  #starting: Promise<Running> | undefined

  constructor(id: string, reports: Reports) {
    this.id = id
    this.#reports = reports
    this.#outflow = new Outflow((text) => reports.log(id, text))
  }

  /** What its startup function acts on. @throws ManyhostError MANYHOST_INSTANCE_ENDED */
  get context(): StartupContext {
    if (this.#context) return this.#context
    throw new ManyhostError(
      'MANYHOST_INSTANCE_ENDED',
      `instance ${this.id} has no startup function`,
    )
  }

  /** Resolves with where it listens. Rejects when it could not be started, and then nothing of it is left. */
  async start(said: Record<string, unknown>, provider: Provider): Promise<string> {
    const { signal } = this.#abort
    this.#starting = (async () => provider.start(this.#spec(said, provider), { signal }))()
    try {
      this.#running = checkRunning(await this.#starting, provider)
    } catch (error) {
      await this.#outflow.flush()
      throw error
    }
    const { address } = this.#running
    this.door = doorOf(address)
    if (!this.door) {
      await this.stop(0)
      const what = `provider ${provider.name} of the agent tells no address to connect to`
      throw new ManyhostError('MANYHOST_UNSUPPORTED', `${what}: ${address}`)
    }
    void exitOf(this.#running).then((exit) => this.#onExit(exit))
    return address ?? ''
  }

  async #onExit(exit: Exit): Promise<void> {
    await this.#outflow.flush()
    this.exit = exit
    this.#reports.ended(this)
  }

  #spec(said: Record<string, unknown>, provider: Provider): StartSpec {
    const { command, image, cwd, resources, listen, concurrency, hasStartup } = said
    const labels = Object.entries(textFields(said.labels ?? {}))
    const limits = resources ? fields(resources) : undefined
    return {
      id: this.id,
      service: text(said.service),
      env: textFields(said.env ?? {}),
      labels: Object.fromEntries(labels.filter(([name]) => !name.startsWith('require.'))),
      concurrency: typeof concurrency === 'number' ? concurrency : 1,
      onOutput: (output) => this.#outflow.add(output),
      ...(command ? { command: texts(command) } : {}),
      ...(typeof image === 'string' && { image }),
      ...(typeof cwd === 'string' && { cwd }),
      ...(listen === 'unix' || listen === 'tcp' ? { listen } : {}),
      // Where nobody can hold a process to them they have served their purpose: to choose the machine.
      ...(limits && provider.capabilities.has('resources') && { resources: limits }),
      ...(hasStartup === true && {
        startup: async (context: StartupContext, where: ListenOn) => {
          this.#context = context
          await this.#reports.startup(this.id, where, { ...context.env })
        },
      }),
    }
  }

  /** As the startup function at the hub has changed it. */
  changeEnv(changes: Record<string, unknown>): void {
    const { env } = this.context
    for (const [name, value] of Object.entries(changes)) {
      if (typeof value === 'string') env[name] = value
      else delete env[name]
    }
  }

  async knock(signal: AbortSignal): Promise<void> {
    if (!this.#running)
      throw new ManyhostError('MANYHOST_INSTANCE_ENDED', `${this.id} does not run`)
    try {
      await this.#running.accepts?.(signal)
    } catch (error) {
      const message = `${this.id} does not accept: ${describe(error)}`
      throw new ManyhostError('MANYHOST_ATTEMPT_FAILED', message)
    }
  }

  /** Sends what could not be sent while there was no link. Resolves when it was, or cannot be. */
  flush(): Promise<void> {
    return this.#outflow.flush()
  }

  /** Resolves when nothing of it is left, and all that it wrote was sent if it could be. */
  async stop(grace: number): Promise<void> {
    this.#abort.abort(
      new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${this.id} was stopped`),
    )
    const running = this.#running ?? (await this.#starting?.catch(() => undefined))
    await running?.stop(grace)
    await this.#outflow.flush()
  }
}
