/** An instance on the agent's own machine, in the care of its local provider, on behalf of a hub. */

import { describeError, ManyhostError } from '../../src/core/errors.ts'
import type {
  Exit,
  ListenOn,
  Provider,
  Running,
  StartSpec,
  StartupContext,
} from '../../src/core/provider.ts'
import { checkRunning, waitForExit } from '../../src/core/provider-checks.ts'
import { AgentOutputSender } from './output-sender.ts'
import { parseFields, parseText, parseTextFields, parseTexts } from './parse-message.ts'
import { type InstanceAddress, parseInstanceAddress } from './splice.ts'

/** Its way to the hub, which may be gone for a while. */
export interface HubReporter {
  sendOutput(id: string, text: string): Promise<void>
  /** Runs the service's function at the hub; resolves when it is through. */
  runStartup(id: string, where: ListenOn, env: Record<string, string>): Promise<void>
  /** It has ended, and all that it wrote was sent if it could be. */
  notifyEnded(guest: AgentInstance): void
}

export class AgentInstance {
  readonly id: string
  exit: Exit | undefined
  serverAddress: InstanceAddress | undefined
  readonly #abort = new AbortController()
  readonly #outputSender: AgentOutputSender
  readonly #reporter: HubReporter
  #context: StartupContext | undefined
  #running: Running | undefined
  #starting: Promise<Running> | undefined

  constructor(id: string, reports: HubReporter) {
    this.id = id
    this.#reporter = reports
    this.#outputSender = new AgentOutputSender((text) => reports.sendOutput(id, text))
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
    this.#starting = (async () => provider.start(this.#buildSpec(said, provider), { signal }))()
    try {
      this.#running = checkRunning(await this.#starting, provider)
    } catch (error) {
      await this.#outputSender.flush()
      throw error
    }
    const { address } = this.#running
    this.serverAddress = parseInstanceAddress(address)
    if (!this.serverAddress) {
      await this.stop(0)
      const what = `provider ${provider.name} of the agent tells no address to connect to`
      throw new ManyhostError('MANYHOST_UNSUPPORTED', `${what}: ${address}`)
    }
    void waitForExit(this.#running).then((exit) => this.#onExit(exit))
    return address ?? ''
  }

  async #onExit(exit: Exit): Promise<void> {
    await this.#outputSender.flush()
    this.exit = exit
    this.#reporter.notifyEnded(this)
  }

  #buildSpec(said: Record<string, unknown>, provider: Provider): StartSpec {
    const { command, image, cwd, resources, listen, concurrency, hasStartup } = said
    const labels = Object.entries(parseTextFields(said.labels ?? {}))
    const limits = resources ? parseFields(resources) : undefined
    return {
      id: this.id,
      service: parseText(said.service),
      env: parseTextFields(said.env ?? {}),
      labels: Object.fromEntries(labels.filter(([name]) => !name.startsWith('require.'))),
      concurrency: typeof concurrency === 'number' ? concurrency : 1,
      onOutput: (output) => this.#outputSender.add(output),
      ...(command ? { command: parseTexts(command) } : {}),
      ...(typeof image === 'string' && { image }),
      ...(typeof cwd === 'string' && { cwd }),
      ...(listen === 'unix' || listen === 'tcp' ? { listen } : {}),
      // Where nobody can hold a process to them they have served their purpose: to choose the machine.
      ...(limits && provider.capabilities.has('resources') && { resources: limits }),
      ...(hasStartup === true && {
        startup: async (context: StartupContext, where: ListenOn) => {
          this.#context = context
          await this.#reporter.runStartup(this.id, where, { ...context.env })
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

  async checkAccepts(signal: AbortSignal): Promise<void> {
    if (!this.#running)
      throw new ManyhostError('MANYHOST_INSTANCE_ENDED', `${this.id} does not run`)
    try {
      await this.#running.accepts?.(signal)
    } catch (error) {
      const message = `${this.id} does not accept: ${describeError(error)}`
      throw new ManyhostError('MANYHOST_ATTEMPT_FAILED', message)
    }
  }

  /** Sends what could not be sent while there was no link. Resolves when it was, or cannot be. */
  flushOutput(): Promise<void> {
    return this.#outputSender.flush()
  }

  /** Resolves when nothing of it is left, and all that it wrote was sent if it could be. */
  async stop(grace: number): Promise<void> {
    this.#abort.abort(
      new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${this.id} was stopped`),
    )
    const running = this.#running ?? (await this.#starting?.catch(() => undefined))
    await running?.stop(grace)
    await this.#outputSender.flush()
  }
}
