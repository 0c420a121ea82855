/** `manyhost/providers/agent`: instances on machines that nobody can connect to. An agent on each machine dials the hub. */
import { readFileSync } from 'node:fs'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import type { AgentEvent } from '../../src/core/events.ts'
import { formatListenAddress } from '../../src/core/listen-address.ts'
import type { Capability, Provider, Running, StartSpec } from '../../src/core/provider.ts'
import type { WireKey } from '../../src/wire/index.ts'
import type { AgentStatus } from './agent-connection.ts'
import { AgentHub, type AgentHubEvents } from './agent-hub.ts'
import { registerAgentMetrics } from './metrics.ts'
import {
  type AgentsOptions,
  type AgentsSettings,
  isLocalAddress,
  parseAgentsOptions,
} from './options.ts'
import { type PlacementRequest, parseRequiredLabels } from './placement.ts'

export type { AgentStatus } from './agent-connection.ts'
export { runAgent } from './agent-program.ts'
export type { AgentNotice, AgentOptions, AgentsOptions } from './options.ts'
export type { AgentEvent, AgentHubEvents }

/** A provider whose machines connect to it. */
export interface AgentsProvider extends Provider {
  /** Starts to listen, as the first start of an instance does. Resolves with the address for `manyhost agent --connect`. */
  address(): Promise<string>
  /** The agents that are known now. */
  readonly agents: readonly AgentStatus[]
  /** Listens to agents that come and go, and to links that are refused. Returns a function that removes the listener. */
  on<Name extends keyof AgentHubEvents>(
    name: Name,
    listener: (event: AgentHubEvents[Name]) => void,
  ): () => void
}

/**
 * Runs instances on the machines of agents: `manyhost agent --connect host:port`, or `runAgent`.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function agents(options: AgentsOptions): AgentsProvider {
  const settings = parseAgentsOptions(options)
  const key = readHubKey(settings)
  const tls = readTlsOptions(settings)
  if (!tls && !settings.insecure && !isLocalAddress(settings.listen)) {
    throw createOptionError(
      `agents: listen ${settings.listen} can be reached from other machines: give tls, or insecure: true`,
    )
  }
  if (settings.evictAfter < 2 * settings.beat) {
    throw createOptionError(
      `agents: evictAfter must be two beats or more, got ${settings.evictAfter} with a beat of ${settings.beat} ms`,
    )
  }
  return new AgentHubProvider({ ...settings, tls }, key)
}

class AgentHubProvider implements AgentsProvider {
  readonly name = 'agent'
  readonly capabilities: ReadonlySet<Capability> = new Set([
    'command',
    'function',
    // Which of these an agent has is known when it comes. A start waits for an agent that has what it needs.
    'image',
    'unix-socket',
    'resources',
  ])
  readonly #hub: AgentHub
  readonly #removeMetrics: (() => void) | undefined

  constructor(settings: AgentsSettings, key: WireKey) {
    this.#hub = new AgentHub(settings, key)
    this.#removeMetrics = settings.registry && registerAgentMetrics(settings.registry, this.#hub)
  }

  get agents(): readonly AgentStatus[] {
    return this.#hub.agents
  }

  on<Name extends keyof AgentHubEvents>(
    name: Name,
    listener: (event: AgentHubEvents[Name]) => void,
  ): () => void {
    return this.#hub.on(name, listener)
  }

  onAvailable(listener: () => void): () => void {
    return this.#hub.on('agent', ({ change }) => {
      if (change === 'came' || change === 'returned') listener()
    })
  }

  onAgent(listener: (event: AgentEvent) => void): () => void {
    return this.#hub.on('agent', listener)
  }

  async address(): Promise<string> {
    const { host, port, path } = await this.#hub.ensureListening()
    return formatListenAddress(path === undefined ? { host, port } : { path })
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    if (!spec.command?.[0] && !spec.startup && !spec.image) {
      throw new ManyhostError(
        'MANYHOST_UNSUPPORTED',
        `${spec.service} needs a command, an image or a startup function to run on an agent`,
      )
    }
    return this.#hub.startInstance(spec, toPlacementRequest(spec), signal)
  }

  async close(): Promise<void> {
    await this.#hub.close()
    this.#removeMetrics?.()
  }
}

function toPlacementRequest({
  labels,
  resources,
  image,
  startup,
  command,
  listen,
}: StartSpec): PlacementRequest {
  return {
    requiredLabels: parseRequiredLabels(labels),
    cpus: resources?.cpus ?? 0,
    memory: resources?.memory ?? 0,
    requiredCapabilities: [
      ...(image !== undefined ? (['image'] as const) : []),
      ...(startup ? (['function'] as const) : []),
      ...(command ? (['command'] as const) : []),
      ...(listen === 'unix' ? (['unix-socket'] as const) : []),
    ],
  }
}

function readHubKey({ key, keyFile }: AgentsSettings): WireKey {
  if (key !== undefined && keyFile !== undefined)
    throw createOptionError('agents: give key or keyFile, not both')
  if (key !== undefined) return key
  if (keyFile === undefined) throw createOptionError('agents: give key or keyFile')
  const found = readOptionFile('keyFile', keyFile).toString('utf8').trim()
  if (Buffer.byteLength(found) >= 16) return found
  throw createOptionError(`agents: keyFile ${keyFile} must hold 16 bytes or more`)
}

function readTlsOptions({ tls, certFile, certKeyFile }: AgentsSettings): AgentsSettings['tls'] {
  if (certFile === undefined && certKeyFile === undefined) return tls
  if (certFile === undefined || certKeyFile === undefined) {
    throw createOptionError('agents: certFile and certKeyFile must be given together')
  }
  return {
    ...tls,
    cert: readOptionFile('certFile', certFile),
    key: readOptionFile('certKeyFile', certKeyFile),
  }
}

function readOptionFile(option: string, path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    throw createOptionError(`agents: ${option} ${path} cannot be read: ${describeError(error)}`)
  }
}

function createOptionError(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}
