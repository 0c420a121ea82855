/** Instances on hosts that one can log in to; each has a connection of its own, and dies with it. */
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
import { now } from '../../src/core/time.ts'
import { quoteShellWord } from '../../src/posix/shell-words.ts'
import { openPool, type ServerEndpoint } from '../shared/endpoint.ts'
import { readFirstLine } from '../shared/remote-shell/copy.ts'
import { type RemoteAllocation, RemoteShellInstance } from '../shared/remote-shell/instance.ts'
import { freePortScript, sendScript, sweepFunction } from '../shared/remote-shell/shell.ts'
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

/** Ports that an instance may choose among at a time, and how often: others of the host may have taken some. */
const PORTS_PER_ROUND = 8
const MAX_PORT_ROUNDS = 16

/** Handshakes with one host at a time: by default sshd refuses some of more than ten (MaxStartups). */
const MAX_HANDSHAKES = 4

/** How long a host that could not be reached comes last, in ms. */
const UNREACHABLE_PAUSE = 10_000

/**
 * Runs instances on a list of hosts, by their sshd. What runs there ends with its connection.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function ssh(options: SshOptions): Provider {
  return new SshProvider(parseSshOptions(options))
}

/** What is known of a host's use, and who waits for a handshake with it. */
interface SshHostState {
  readonly target: SshTarget
  numInstances: number
  cpus: number
  memory: number
  pausedUntil: number
  numHandshakes: number
  readonly handshakeQueue: (() => void)[]
}

class SshProvider implements Provider {
  readonly name = 'ssh'
  readonly capabilities: ReadonlySet<Capability> = new Set([
    'command',
    'function',
    // As for processes: the host is the image.
    'image',
    'unix-socket',
    // They say how much of a host's declared capacity an instance takes; nobody holds it to that.
    'resources',
  ])
  readonly limit: number | undefined
  readonly #settings: SshSettings
  readonly #marker = randomBytes(12).toString('hex')
  readonly #hosts: readonly SshHostState[]
  readonly #instances = new Set<RemoteShellInstance>()
  readonly #starting = new Set<Promise<unknown>>()
  readonly #closing = new AbortController()
  #nextPort: number
  #lastSocket = 0

  constructor(settings: SshSettings) {
    this.#settings = settings
    this.#hosts = settings.hosts.map((target) => ({
      target,
      numInstances: 0,
      cpus: 0,
      memory: 0,
      pausedUntil: 0,
      numHandshakes: 0,
      handshakeQueue: [],
    }))
    const limit = settings.hosts.reduce((sum, host) => sum + host.limit, 0)
    if (Number.isFinite(limit)) this.limit = limit
    const [from, to] = settings.ports
    this.#nextPort = from + Math.floor(Math.random() * (to - from + 1))
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
      const place = await this.#createAllocation(spec, link, release)
      const instance = new RemoteShellInstance(spec, place)
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

  /** To the best host that lets us in. */
  async #connectToBestHost(
    spec: StartSpec,
    signal: AbortSignal,
  ): Promise<{ link: SshConnection; release: () => void }> {
    const { cpus = 1, memory = 0 } = spec.resources ?? {}
    const tried = new Set<SshHostState>()
    const failures: Error[] = []
    for (;;) {
      const left: SshHostLoad[] = this.#hosts.filter((host) => !tried.has(host))
      const host = rankHosts(left, { cpus, memory }, now())[0] as SshHostState | undefined
      if (!host) break
      tried.add(host)
      // Taken before it is reached: those that start at the same time see it.
      const release = this.#reserveHost(host, cpus, memory)
      try {
        const link = await this.#openConnection(host, signal)
        host.pausedUntil = 0
        return { link, release }
      } catch (error) {
        release()
        if (signal.aborted) throw this.#createStartError(spec, 'it was given up', signal.reason)
        host.pausedUntil = now() + UNREACHABLE_PAUSE
        failures.push(asError(error))
      }
    }
    const why = failures.map(({ message }) => message).join('; ')
    const full = `no host has room for it: ${this.#hosts.map(({ target, numInstances: instances }) => `${hostNameOf(target)} has ${instances}`).join(', ')}`
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

  async #openConnection(host: SshHostState, signal: AbortSignal): Promise<SshConnection> {
    if (host.numHandshakes >= MAX_HANDSHAKES)
      await new Promise<void>((next) => host.handshakeQueue.push(next))
    else host.numHandshakes++
    try {
      return await SshConnection.open(host.target, this.#settings, signal)
    } finally {
      const next = host.handshakeQueue.shift()
      if (next) next()
      else host.numHandshakes--
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
        // undici asks of a socket nothing that a channel has not.
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
      const port = await runLineScript(link, freePortScript(this.#nextPorts()))
      if (port !== 'none') return { host, port: Number(port) }
    }
    const tried = `of ports none of ${MAX_PORT_ROUNDS * PORTS_PER_ROUND} tried in ${from}..${to}`
    throw new Error(`${tried} is free on ${link.name}; option \`ports\` sets the range`)
  }

  /** What has left its process group, and the socket. */
  async #cleanUp({ id }: StartSpec, link: SshConnection, { socketPath }: ListenOn): Promise<void> {
    const socket =
      socketPath === undefined
        ? ''
        : `rm -f ${quoteShellWord(socketPath)}; rmdir "$(dirname ${quoteShellWord(socketPath)})" 2>/dev/null`
    // It is over already where the connection was lost; the leash has swept then.
    await runLineScript(link, `${sweepFunction(id)}\nsweep\n${socket}\necho done`).catch(() => {})
  }

  /** Of one session no two instances try the same, wherever they run. */
  #nextPorts(): number[] {
    const [from, to] = this.#settings.ports
    return Array.from({ length: Math.min(PORTS_PER_ROUND, to - from + 1) }, () => {
      this.#nextPort = this.#nextPort >= to ? from : this.#nextPort + 1
      return this.#nextPort
    })
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

/** The one line that a script prints. */
async function runLineScript(link: SshConnection, text: string): Promise<string> {
  const shell = await link.openShell()
  sendScript(shell.stdin, text)
  shell.stderr.resume()
  const line = await readFirstLine(shell.stdout)
  const code = await shell.exit
  shell.destroy()
  if (line === '') throw new Error(`${link.name} has no answer: exit code ${code ?? 'unknown'}`)
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
