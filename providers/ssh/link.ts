/** One connection to a host: shells and forwarded connections as its channels. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import type { Duplex } from 'node:stream'
import type { Client, ClientChannel, ConnectConfig, ServerHostKeyAlgorithm } from 'ssh2'
import { describe, ManyhostError } from '../../src/core/errors.ts'
import type { ListenOn } from '../../src/core/provider.ts'
import { within } from '../../src/core/time.ts'
import { keepToOurselves } from '../../src/posix/environment.ts'
import { codeOfSignal } from '../exit.ts'
import { skipTo } from '../far/copy.ts'
import type { Machine, Shell } from '../far/machine.ts'
import { BOOTSTRAP, quote } from '../far/shell.ts'
import { fingerprint, KnownHosts } from './known-hosts.ts'
import { nameOf, type Settings, type Target } from './options.ts'

/** Questions in a row that the other end leaves unanswered before it is taken as lost. */
const MOST_UNANSWERED = 3

export class Link implements Machine {
  readonly name: string
  /** Resolves when the connection has ended, with why where that is known. */
  readonly closed: Promise<string>
  readonly #client: Client
  readonly #patience: number

  private constructor(client: Client, name: string, patience: number) {
    this.#client = client
    this.#patience = patience
    this.name = name
    this.closed = new Promise((resolve) => {
      let why = ''
      client.on('error', (error) => {
        why ||= describe(error)
      })
      client.once('close', () => resolve(why))
    })
  }

  /** @throws ManyhostError MANYHOST_START_FAILED; MANYHOST_UNSUPPORTED without the package ssh2 */
  static async open(target: Target, settings: Settings, signal: AbortSignal): Promise<Link> {
    const { Client: Made } = await load()
    const client = new Made()
    const link = new Link(client, nameOf(target), settings.connectTimeout)
    const judged = { why: '' }
    const config = { ...configOf(target, settings), ...judge(target, settings, judged) }
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        client.destroy()
        fail(signal.reason)
      }
      const fail = (cause: unknown): void => {
        signal.removeEventListener('abort', onAbort)
        client.destroy()
        const text = `cannot connect to ${link.name}: ${judged.why || describe(cause)}`
        reject(new ManyhostError('MANYHOST_START_FAILED', text, { cause }))
      }
      if (signal.aborted) return onAbort()
      signal.addEventListener('abort', onAbort, { once: true })
      client.once('ready', () => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      })
      client.once('error', fail)
      void link.closed.then((why) => fail(why || 'it hung up'))
      try {
        client.connect(config)
      } catch (error) {
        fail(error)
      }
    })
    return link
  }

  async open(): Promise<Shell> {
    // A login shell may print what it likes before it runs our command: ours begins with a line that nobody else prints.
    const mark = `manyhost-${randomBytes(16).toString('hex')}`
    let shell: Shell | undefined
    try {
      // Whatever the user's own shell is, it only has to start this one.
      shell = await this.#exec(`exec sh -c ${quote(`echo ${mark}; ${BOOTSTRAP}`)}`)
      const begun = skipTo(shell.stdout, mark).then(() => true)
      begun.catch(() => {})
      if (await within(this.#patience, begun)) return shell
      throw new Error(
        `its login shell did not run our command within ${this.#patience} ms; does it wait for input, or run another program?`,
      )
    } catch (cause) {
      shell?.destroy()
      const text = `${this.name} gave no shell: ${describe(cause)}`
      throw new ManyhostError('MANYHOST_START_FAILED', text, { cause })
    }
  }

  #exec(command: string): Promise<Shell> {
    return new Promise((resolve, reject) => {
      this.#client.exec(command, (error, channel) => {
        if (error) reject(error)
        else resolve(shellOf(channel))
      })
    })
  }

  /** A connection to what listens there, as seen from the host. */
  forward(listenOn: ListenOn): Promise<Duplex> {
    return new Promise((resolve, reject) => {
      const done = (error: Error | undefined, channel: Duplex): void => {
        if (error) {
          const { socketPath, host, port } = listenOn
          const where = socketPath ?? `${host}:${port}`
          reject(
            Object.assign(new Error(`${this.name}, ${where}: ${error.message}`), {
              code: 'ECONNREFUSED',
            }),
          )
        } else resolve(channel)
      }
      try {
        if (listenOn.socketPath !== undefined) {
          this.#client.openssh_forwardOutStreamLocal(listenOn.socketPath, done)
        } else this.#client.forwardOut('127.0.0.1', 0, listenOn.host, listenOn.port, done)
      } catch (error) {
        done(error as Error, undefined as never)
      }
    })
  }

  /** What runs in its shells reads the end of its lifeline. */
  async close(): Promise<void> {
    this.#client.end()
    await this.closed
  }

  destroy(): void {
    this.#client.destroy()
  }
}

async function load(): Promise<typeof import('ssh2')> {
  try {
    const loaded = await import('ssh2')
    return loaded.default as unknown as typeof import('ssh2')
  } catch (cause) {
    const text = "ssh needs the package ssh2: npm install 'ssh2@^1.17'"
    throw new ManyhostError('MANYHOST_UNSUPPORTED', text, { cause })
  }
}

function shellOf(channel: ClientChannel): Shell {
  channel.on('error', () => {})
  channel.stderr.on('error', () => {})
  const exit = new Promise<number | undefined>((resolve) => {
    channel.once('exit', (code: number | null, signal?: string) => {
      resolve(code ?? (signal === undefined ? undefined : codeOfSignal(signal)))
    })
    channel.once('close', () => resolve(undefined))
  })
  return {
    stdin: channel,
    stdout: channel,
    stderr: channel.stderr,
    exit,
    destroy: () => {
      channel.end()
      channel.resume()
      channel.stderr.resume()
      channel.close()
    },
  }
}

function configOf({ host, port, user }: Target, settings: Settings): ConnectConfig {
  const { connectTimeout, keepalive } = settings
  const agent = settings.agent ?? process.env.SSH_AUTH_SOCK
  const key = privateKey(settings)
  const { passphraseEnv } = settings
  if (passphraseEnv) keepToOurselves(passphraseEnv)
  const passphrase = passphraseEnv && process.env[passphraseEnv]
  return {
    host,
    port,
    username: user,
    readyTimeout: connectTimeout,
    keepaliveInterval: Math.max(250, keepalive / MOST_UNANSWERED),
    keepaliveCountMax: MOST_UNANSWERED,
    ...(agent && { agent }),
    ...(key && { privateKey: key }),
    ...(passphrase && { passphrase }),
  }
}

function privateKey({ key, keyEnv }: Settings): Buffer | string | undefined {
  if (keyEnv !== undefined) {
    keepToOurselves(keyEnv)
    return process.env[keyEnv]
  }
  if (key !== undefined) return read(key)
  for (const name of ['id_ed25519', 'id_ecdsa', 'id_rsa']) {
    const found = readIfThere(`${homedir()}/.ssh/${name}`)
    if (found) return found
  }
  return undefined
}

function read(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (cause) {
    const text = `the private key cannot be read: ${describe(cause)}`
    throw new ManyhostError('MANYHOST_START_FAILED', text, { cause })
  }
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path)
  } catch {
    return undefined
  }
}

/** The host must prove to be the one that is known. There is no way to leave that out. */
function judge(
  { host, port, fingerprint: pinned }: Target,
  { knownHosts: paths }: Settings,
  judged: { why: string },
): ConnectConfig {
  if (pinned !== undefined) {
    return {
      hostVerifier: (key: Buffer) => {
        const seen = fingerprint(key)
        if (seen === pinned.replace(/=$/, '')) return true
        judged.why = `its key is ${seen}, not ${pinned}`
        return false
      },
    }
  }
  const known = KnownHosts.read(paths)
  const types = known.types(host, port).flatMap(algorithms)
  return {
    ...(types.length > 0 && { algorithms: { serverHostKey: types } }),
    hostVerifier: (key: Buffer) => {
      const verdict = known.judge(host, port, key)
      if (verdict === 'known') return true
      judged.why =
        verdict === 'wrong'
          ? `its key ${fingerprint(key)} is not the one that is known of it`
          : `its key ${fingerprint(key)} is in none of ${paths.join(', ')}; add it, or give its fingerprint`
      return false
    },
  }
}

function algorithms(type: string): ServerHostKeyAlgorithm[] {
  if (type === 'ssh-rsa') return ['rsa-sha2-512', 'rsa-sha2-256']
  return type.startsWith('ssh-ed25519') || type.startsWith('ecdsa-sha2-')
    ? [type as ServerHostKeyAlgorithm]
    : []
}
