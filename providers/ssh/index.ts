/** Runs instances on hosts that one can log in to. Each instance has a connection of its own, and dies with it. */
import { randomBytes } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { buildConnector } from 'undici'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import type {
  Capability,
  Exit,
  ListenOn,
  Provider,
  Running,
  StartSpec,
} from '../../src/core/provider.ts'
import { Semaphore } from '../../src/core/semaphore.ts'
import { now } from '../../src/core/time.ts'
import { quoteShellWord } from '../../src/posix/shell-words.ts'
import { openPool, type ServerEndpoint } from '../shared/endpoint.ts'
import { PortSequence } from '../shared/port-sequence.ts'
import { readFirstLine } from '../shared/remote-shell/copy.ts'
import { type RemoteAllocation, RemoteShellInstance } from '../shared/remote-shell/instance.ts'
import { freePortScript, sendScript } from '../shared/remote-shell/shell.ts'
import { sweepFunction } from '../shared/script-parts.ts'
import { SshConnection } from './connection.ts'
import { rankHosts, type SshHostLoad } from './host-ranking.ts'
import {
  hostNameOf,
  parseSshOptions,
  type SshOptions,
  type SshSettings,
  type SshTarget,
} from './options.ts'

export type { SshHost, SshOptions } from './options.ts'

/** Number of ports that an instance chooses from in one round: other programs of the host may have taken some. */
const PORTS_PER_ROUND = 8
const MAX_PORT_ROUNDS = 16

/** Number of handshakes with one host at a time: by default sshd refuses some if there are more than ten (MaxStartups). */
const MAX_HANDSHAKES = 4

/** A host that could not be reached is tried last for this time, in ms. */
const UNREACHABLE_PAUSE = 10_000

/**
 * Runs instances on a list of hosts, by their sshd. The processes of an instance end with its connection.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function ssh(options: SshOptions): Provider {
  return new SshProvider(parseSshOptions(options))
}

/** The use of one host, and the handshakes with it. */
interface SshHostState {
  readonly target: SshTarget
  numInstances: number
  cpus: number
  memory: number
  pausedUntil: number
  readonly handshakes: Semaphore
}

class SshProvider implements Provider {
  readonly name = 'ssh'
  readonly capabilities: ReadonlySet<Capability> = new Set([
    'command',
    'function',
    // As for processes: the host is the image.
    'image',
    'unix-socket',
    // Resources say how much of a host's declared capacity an instance takes. They do not limit the instance.
    'resources',
  ])
  readonly limit: number | undefined
  readonly #settings: SshSettings
  readonly #marker = randomBytes(12).toString('hex')
  readonly #hosts: readonly SshHostState[]
  readonly #instances = new Set<RemoteShellInstance>()
  readonly #starting = new Set<Promise<unknown>>()
  readonly #closing = new AbortController()
  readonly #ports: PortSequence
  #lastSocket = 0

  constructor(settings: SshSettings) {
    this.#settings = settings
    this.#hosts = settings.hosts.map((target) => ({
      target,
      numInstances: 0,
      cpus: 0,
      memory: 0,
      pausedUntil: 0,
      handshakes: new Semaphore(MAX_HANDSHAKES),
    }))
    const limit = settings.hosts.reduce((sum, host) => sum + host.limit, 0)
    if (Number.isFinite(limit)) this.limit = limit
    this.#ports = new PortSequence(settings.ports)
  }

  async start(spec: StartSpec, { signal }: { signal: AbortSignal }): Promise<Running> {
    if (!spec.command?.[0] && !spec.startup) {
      throw new ManyhostError(
        'MANYHOST_UNSUPPORTED',
        `${spec.service} needs a command or a startup function to run by ssh`,
      )
    }
    const starting = this.#start(spec, AbortSignal.any([signal, this.#closing.signal]))
    this.#starting.add(starting)
    const forget = (): void => void this.#starting.delete(starting)
    starting.then(forget, forget)
    return starting
  }

  async #start(spec: StartSpec, signal: AbortSignal): Promise<Running> {
    const { link, release } = await this.#connectToBestHost(spec, signal)
    try {
      const allocation = await this.#createAllocation(spec, link, release)
      const instance = new RemoteShellInstance(spec, allocation)
      this.#instances.add(instance)
      void instance.gone.then(() => this.#instances.delete(instance))
      try {
        await instance.begin(signal)
      } catch (error) {
        await instance.stop(0)
        throw error
      }
      return instance
    } catch (error) {
      link.destroy()
      release()
      throw error instanceof ManyhostError
        ? error
        : this.#createStartError(spec, describeError(error), error)
    }
  }

  /** Connects to the best host that lets us log in. */
  async #connectToBestHost(
    spec: StartSpec,
    signal: AbortSignal,
  ): Promise<{ link: SshConnection; release: () => void }> {
    const { cpus = 1, memory = 0 } = spec.resources ?? {}
    const tried = new Set<SshHostState>()
    const failures: Error[] = []
    for (;;) {
      const untried: SshHostLoad[] = this.#hosts.filter((host) => !tried.has(host))
      const host = rankHosts(untried, { cpus, memory }, now())[0] as SshHostState | undefined
      if (!host) break
      tried.add(host)
      // Reserved before the host is reached, so that starts at the same time see it.
      const release = this.#reserveHost(host, cpus, memory)
      try {
        const link = await host.handshakes.run(() =>
          SshConnection.open(host.target, this.#settings, signal),
        )
        host.pausedUntil = 0
        return { link, release }
      } catch (error) {
        release()
        if (signal.aborted) {
          throw this.#createStartError(spec, 'the start was given up', signal.reason)
        }
        host.pausedUntil = now() + UNREACHABLE_PAUSE
        failures.push(asError(error))
      }
    }
    const why = failures.map(({ message }) => message).join('; ')
    const uses = this.#hosts.map(
      ({ target, numInstances }) => `${hostNameOf(target)} has ${numInstances} instances`,
    )
    const full = `every host is full (options limit and memory of hosts): ${uses.join(', ')}`
    throw this.#createStartError(spec, why || full, failures[0])
  }

  #reserveHost(host: SshHostState, cpus: number, memory: number): () => void {
    host.numInstances++
    host.cpus += cpus
    host.memory += memory
    let isTaken = true
    return () => {
      if (!isTaken) return
      isTaken = false
      host.numInstances--
      host.cpus -= cpus
      host.memory -= memory
    }
  }

  async #createAllocation(
    spec: StartSpec,
    link: SshConnection,
    release: () => void,
  ): Promise<RemoteAllocation> {
    const listenOn = await this.#chooseAddress(spec, link)
    const where = listenOn.socketPath ?? `${listenOn.host}:${listenOn.port}`
    const address = listenOn.socketPath === undefined ? `http://${where}` : `unix:${where}`
    const endpoint: ServerEndpoint = { origin: 'http://localhost', listenOn, address }
    const connect = (_: buildConnector.Options, callback: buildConnector.Callback): void => {
      link.forward(listenOn).then(
        // undici uses nothing of a socket that a channel does not have.
        (channel) => callback(null, channel as Parameters<buildConnector.Callback>[1] & Duplex),
        (error: Error) => callback(error, null),
      )
    }
    return {
      machine: link,
      listenOn,
      address: `${address} at ${link.name}`,
      dispatcher: openPool(endpoint, spec, connect as never),
      env: this.#settings.env,
      cwd: spec.cwd ?? this.#settings.cwd,
      marker: this.#marker,
      lost: link.closed.then(
        (why): Exit => ({
          reason: 'lost',
          detail: `the connection to ${link.name} was lost${why && `: ${why}`}`,
        }),
      ),
      accepts: (signal) => probeChannel(link, listenOn, signal),
      release: async () => {
        await this.#cleanUp(spec, link, listenOn)
        await link.close()
        release()
      },
    }
  }

  async #chooseAddress(spec: StartSpec, link: SshConnection): Promise<ListenOn> {
    const { listen, listenHost: host } = this.#settings
    if ((spec.listen ?? listen) === 'unix') {
      const folder = `/tmp/manyhost-${this.#marker}`
      await runLineScript(link, `umask 077; mkdir -p ${folder} && [ -O ${folder} ] && echo made`)
      return { socketPath: `${folder}/${++this.#lastSocket}.sock` }
    }
    const [from, to] = this.#settings.ports
    for (let round = 0; round < MAX_PORT_ROUNDS; round++) {
      const port = await runLineScript(link, freePortScript(this.#ports.take(PORTS_PER_ROUND)))
      if (port !== 'none') return { host, port: Number(port) }
    }
    throw new Error(
      `no free port on ${link.name}: ${MAX_PORT_ROUNDS * PORTS_PER_ROUND} ports of ${from}..${to} were tried; option \`ports\` sets the range`,
    )
  }

  /** Kills the processes that have left their process group, and removes the socket. */
  async #cleanUp({ id }: StartSpec, link: SshConnection, { socketPath }: ListenOn): Promise<void> {
    const socket =
      socketPath === undefined
        ? ''
        : `rm -f ${quoteShellWord(socketPath)}; rmdir "$(dirname ${quoteShellWord(socketPath)})" 2>/dev/null`
    // If the connection was lost, this fails; then the leash script has done the same already.
    await runLineScript(link, `${sweepFunction(id)}\nsweep\n${socket}\necho done`).catch(() => {})
  }

  async close(): Promise<void> {
    this.#closing.abort(new ManyhostError('MANYHOST_SESSION_CLOSED', 'the provider ssh was closed'))
    await Promise.allSettled(this.#starting)
    await Promise.all([...this.#instances].map((instance) => instance.stop(0)))
  }

  #createStartError(spec: StartSpec, why: string, cause: unknown): ManyhostError {
    const text = `instance ${spec.id} was not started: ${why}`
    return new ManyhostError('MANYHOST_START_FAILED', text, {
      service: spec.service,
      cause: asError(cause),
    })
  }
}

/** Resolves with the one line that a script prints. */
async function runLineScript(link: SshConnection, text: string): Promise<string> {
  const shell = await link.openShell()
  sendScript(shell.stdin, text)
  shell.stderr.resume()
  const line = await readFirstLine(shell.stdout)
  const code = await shell.exit
  shell.destroy()
  if (line === '') {
    throw new Error(`a script on ${link.name} printed nothing: exit code ${code ?? 'unknown'}`)
  }
  return line
}

async function probeChannel(
  link: SshConnection,
  listenOn: ListenOn,
  signal: AbortSignal,
): Promise<void> {
  signal.throwIfAborted()
  const channel = await link.forward(listenOn)
  channel.on('error', () => {})
  channel.destroy()
}
