/** Instances on hosts that one can log in to; each has a connection of its own, and dies with it. */
import { randomBytes } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { buildConnector } from 'undici'
import { asError, describe, ManyhostError } from '../../src/core/errors.ts'
import type {
  Capability,
  Exit,
  ListenOn,
  Provider,
  Running,
  StartSpec,
} from '../../src/core/provider.ts'
import { now } from '../../src/core/time.ts'
import { type Endpoint, openPool } from '../endpoint.ts'
import { firstLine } from '../far/copy.ts'
import { FarInstance, type Place } from '../far/instance.ts'
import { feed, freePort, quote, sweep } from '../far/shell.ts'
import { Link } from './link.ts'
import { nameOf, parseOptions, type Settings, type SshOptions, type Target } from './options.ts'
import { type Load, rank } from './spread.ts'

export type { SshHost, SshOptions } from './options.ts'

/** Ports that an instance may choose among at a time, and how often: others of the host may have taken some. */
const PORTS_EACH = 8
const MOST_ROUNDS = 16

/** Handshakes with one host at a time: by default sshd refuses some of more than ten (MaxStartups). */
const MOST_HANDSHAKES = 4

/** How long a host that could not be reached comes last, in ms. */
const REST = 10_000

/**
 * Runs instances on a list of hosts, by their sshd. What runs there ends with its connection.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function ssh(options: SshOptions): Provider {
  return new Ssh(parseOptions(options))
}

/** What is known of a host's use, and who waits for a handshake with it. */
interface Host {
  readonly target: Target
  instances: number
  cpus: number
  memory: number
  restsUntil: number
  handshakes: number
  readonly line: (() => void)[]
}

class Ssh implements Provider {
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
  readonly #settings: Settings
  readonly #marker = randomBytes(12).toString('hex')
  readonly #hosts: readonly Host[]
  readonly #instances = new Set<FarInstance>()
  readonly #starting = new Set<Promise<unknown>>()
  readonly #closing = new AbortController()
  #nextPort: number
  #sockets = 0

  constructor(settings: Settings) {
    this.#settings = settings
    this.#hosts = settings.hosts.map((target) => ({
      target,
      instances: 0,
      cpus: 0,
      memory: 0,
      restsUntil: 0,
      handshakes: 0,
      line: [],
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
    const { link, release } = await this.#connect(spec, signal)
    try {
      const place = await this.#place(spec, link, release)
      const instance = new FarInstance(spec, place)
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
      throw error instanceof ManyhostError ? error : this.#failure(spec, describe(error), error)
    }
  }

  /** To the best host that lets us in. */
  async #connect(
    spec: StartSpec,
    signal: AbortSignal,
  ): Promise<{ link: Link; release: () => void }> {
    const { cpus = 1, memory = 0 } = spec.resources ?? {}
    const tried = new Set<Host>()
    const failures: Error[] = []
    for (;;) {
      const left: Load[] = this.#hosts.filter((host) => !tried.has(host))
      const host = rank(left, { cpus, memory }, now())[0] as Host | undefined
      if (!host) break
      tried.add(host)
      // Taken before it is reached: those that start at the same time see it.
      const release = this.#take(host, cpus, memory)
      try {
        const link = await this.#shake(host, signal)
        host.restsUntil = 0
        return { link, release }
      } catch (error) {
        release()
        if (signal.aborted) throw this.#failure(spec, 'it was given up', signal.reason)
        host.restsUntil = now() + REST
        failures.push(asError(error))
      }
    }
    const why = failures.map(({ message }) => message).join('; ')
    const full = `no host has room for it: ${this.#hosts.map(({ target, instances }) => `${nameOf(target)} has ${instances}`).join(', ')}`
    throw this.#failure(spec, why || full, failures[0])
  }

  #take(host: Host, cpus: number, memory: number): () => void {
    host.instances++
    host.cpus += cpus
    host.memory += memory
    let isTaken = true
    return () => {
      if (!isTaken) return
      isTaken = false
      host.instances--
      host.cpus -= cpus
      host.memory -= memory
    }
  }

  async #shake(host: Host, signal: AbortSignal): Promise<Link> {
    if (host.handshakes >= MOST_HANDSHAKES) await new Promise<void>((next) => host.line.push(next))
    else host.handshakes++
    try {
      return await Link.open(host.target, this.#settings, signal)
    } finally {
      const next = host.line.shift()
      if (next) next()
      else host.handshakes--
    }
  }

  async #place(spec: StartSpec, link: Link, release: () => void): Promise<Place> {
    const listenOn = await this.#listenOn(spec, link)
    const where = listenOn.socketPath ?? `${listenOn.host}:${listenOn.port}`
    const address = listenOn.socketPath === undefined ? `http://${where}` : `unix:${where}`
    const endpoint: Endpoint = { origin: 'http://localhost', listenOn, address }
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
      accepts: (signal) => accepts(link, listenOn, signal),
      release: async () => {
        await this.#clear(spec, link, listenOn)
        await link.close()
        release()
      },
    }
  }

  async #listenOn(spec: StartSpec, link: Link): Promise<ListenOn> {
    const { listen, listenHost: host } = this.#settings
    if ((spec.listen ?? listen) === 'unix') {
      const folder = `/tmp/manyhost-${this.#marker}`
      await script(link, `umask 077; mkdir -p ${folder} && [ -O ${folder} ] && echo made`)
      return { socketPath: `${folder}/${++this.#sockets}.sock` }
    }
    const [from, to] = this.#settings.ports
    for (let round = 0; round < MOST_ROUNDS; round++) {
      const port = await script(link, freePort(this.#ports()))
      if (port !== 'none') return { host, port: Number(port) }
    }
    const tried = `of ports none of ${MOST_ROUNDS * PORTS_EACH} tried in ${from}..${to}`
    throw new Error(`${tried} is free on ${link.name}; option \`ports\` sets the range`)
  }

  /** What has left its process group, and the socket. */
  async #clear({ id }: StartSpec, link: Link, { socketPath }: ListenOn): Promise<void> {
    const socket =
      socketPath === undefined
        ? ''
        : `rm -f ${quote(socketPath)}; rmdir "$(dirname ${quote(socketPath)})" 2>/dev/null`
    // It is over already where the connection was lost; the leash has swept then.
    await script(link, `${sweep(id)}\nsweep\n${socket}\necho done`).catch(() => {})
  }

  /** Of one session no two instances try the same, wherever they run. */
  #ports(): number[] {
    const [from, to] = this.#settings.ports
    return Array.from({ length: Math.min(PORTS_EACH, to - from + 1) }, () => {
      this.#nextPort = this.#nextPort >= to ? from : this.#nextPort + 1
      return this.#nextPort
    })
  }

  async close(): Promise<void> {
    this.#closing.abort(new ManyhostError('MANYHOST_SESSION_CLOSED', 'the provider ssh was closed'))
    await Promise.allSettled(this.#starting)
    await Promise.all([...this.#instances].map((instance) => instance.stop(0)))
  }

  #failure(spec: StartSpec, why: string, cause: unknown): ManyhostError {
    const text = `instance ${spec.id} was not started: ${why}`
    return new ManyhostError('MANYHOST_START_FAILED', text, {
      service: spec.service,
      cause: asError(cause),
    })
  }
}

/** The one line that a script prints. */
async function script(link: Link, text: string): Promise<string> {
  const shell = await link.open()
  feed(shell.stdin, text)
  shell.stderr.resume()
  const line = await firstLine(shell.stdout)
  const code = await shell.exit
  shell.destroy()
  if (line === '') throw new Error(`${link.name} has no answer: exit code ${code ?? 'unknown'}`)
  return line
}

async function accepts(link: Link, listenOn: ListenOn, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted()
  const channel = await link.forward(listenOn)
  channel.on('error', () => {})
  channel.destroy()
}
