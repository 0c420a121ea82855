/** An instance on the agent's own machine. The agent's local provider runs it, on behalf of the hub. */
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

/** How an instance reaches the hub. The link may be away for a while. */
export interface HubReporter {
  /** Rejects while there is no link. */
  sendOutput(id: string, text: string): Promise<void>
  /** Runs the startup function of the service at the hub. Resolves when it has returned. */
  runStartup(id: string, listenOn: ListenOn, env: Record<string, string>): Promise<void>
  /** The instance has ended. All of its output was sent, if there was a link. */
  notifyEnded(instance: AgentInstance): void
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

  constructor(id: string, reporter: HubReporter) {
    this.id = id
    this.#reporter = reporter
    this.#outputSender = new AgentOutputSender((text) => reporter.sendOutput(id, text))
  }

  /** The context on which the startup function at the hub acts. @throws ManyhostError MANYHOST_INSTANCE_ENDED */
  get context(): StartupContext {
    if (this.#context) return this.#context
    throw new ManyhostError(
      'MANYHOST_INSTANCE_ENDED',
      `instance ${this.id} has no startup function`,
    )
  }

  /**
   * Resolves with the address of the instance. Rejects when the instance could not be started; nothing of it is left then.
   * @param message the spec, as the hub has sent it
   */
  async start(message: Record<string, unknown>, provider: Provider): Promise<string> {
    const { signal } = this.#abort
    this.#starting = (async () => provider.start(this.#buildSpec(message, provider), { signal }))()
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
      const what = `provider ${provider.name} of the agent`
      throw new ManyhostError(
        'MANYHOST_UNSUPPORTED',
        `${what} must give an address of http:// or unix:, got ${address}`,
      )
    }
    void waitForExit(this.#running).then((exit) => this.#onExit(exit))
    return address ?? ''
  }

  async #onExit(exit: Exit): Promise<void> {
    await this.#outputSender.flush()
    this.exit = exit
    this.#reporter.notifyEnded(this)
  }

  #buildSpec(message: Record<string, unknown>, provider: Provider): StartSpec {
    const { command, image, cwd, resources, listen, concurrency, hasStartup } = message
    const labels = Object.entries(parseTextFields(message.labels ?? {}))
    const limits = resources ? parseFields(resources) : undefined
    return {
      id: this.id,
      service: parseText(message.service),
      env: parseTextFields(message.env ?? {}),
      labels: Object.fromEntries(labels.filter(([name]) => !name.startsWith('require.'))),
      concurrency: typeof concurrency === 'number' ? concurrency : 1,
      onOutput: (output) => this.#outputSender.add(output),
      ...(command ? { command: parseTexts(command) } : {}),
      ...(typeof image === 'string' && { image }),
      ...(typeof cwd === 'string' && { cwd }),
      ...(listen === 'unix' || listen === 'tcp' ? { listen } : {}),
      // A provider that cannot limit its instances does not get the resources: they have served to choose this agent.
      ...(limits && provider.capabilities.has('resources') && { resources: limits }),
      ...(hasStartup === true && {
        startup: async (context: StartupContext, listenOn: ListenOn) => {
          this.#context = context
          await this.#reporter.runStartup(this.id, listenOn, { ...context.env })
        },
      }),
    }
  }

  /** Applies what the startup function at the hub has changed in the environment. Null removes a variable. */
  changeEnv(changes: Record<string, unknown>): void {
    const { env } = this.context
    for (const [name, value] of Object.entries(changes)) {
      if (typeof value === 'string') env[name] = value
      else delete env[name]
    }
  }

  async checkAccepts(signal: AbortSignal): Promise<void> {
    if (!this.#running) {
      throw new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${this.id} does not run`)
    }
    try {
      await this.#running.accepts?.(signal)
    } catch (error) {
      const message = `instance ${this.id} does not accept connections: ${describeError(error)}`
      throw new ManyhostError('MANYHOST_ATTEMPT_FAILED', message)
    }
  }

  /** Sends output that could not be sent while there was no link. Resolves when it was sent, or cannot be sent now. */
  flushOutput(): Promise<void> {
    return this.#outputSender.flush()
  }

  /** Resolves when nothing of the instance is left, and its output was sent if there was a link. */
  async stop(grace: number): Promise<void> {
    this.#abort.abort(
      new ManyhostError('MANYHOST_INSTANCE_ENDED', `instance ${this.id} was stopped`),
    )
    const running = this.#running ?? (await this.#starting?.catch(() => undefined))
    await running?.stop(grace)
    await this.#outputSender.flush()
  }
}
