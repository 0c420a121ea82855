/** One ssh connection to a host. Its channels are shells and forwarded connections. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import type { Duplex } from 'node:stream'
import type { Client, ClientChannel, ConnectConfig, ServerHostKeyAlgorithm } from 'ssh2'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import type { ListenOn } from '../../src/core/provider.ts'
import { resolveWithin } from '../../src/core/time.ts'
import { excludeFromChildren } from '../../src/posix/environment.ts'
import { quoteShellWord } from '../../src/posix/shell-words.ts'
import { exitCodeOfSignal } from '../shared/exit.ts'
import { skipToMark } from '../shared/remote-shell/copy.ts'
import type { RemoteMachine, RemoteShell } from '../shared/remote-shell/machine.ts'
import { BOOTSTRAP } from '../shared/remote-shell/shell.ts'
import { fingerprintOf, KnownHosts } from './known-hosts.ts'
import { hostNameOf, type SshSettings, type SshTarget } from './options.ts'

/** A connection is lost if this many keepalive requests in a row get no answer. */
const MAX_UNANSWERED = 3

export class SshConnection implements RemoteMachine {
  readonly name: string
  /** Resolves when the connection has ended, with the reason; empty if that is not known. */
  readonly closed: Promise<string>
  readonly #client: Client
  readonly #shellTimeoutMs: number

  private constructor(client: Client, name: string, shellTimeoutMs: number) {
    this.#client = client
    this.#shellTimeoutMs = shellTimeoutMs
    this.name = name
    this.closed = new Promise((resolve) => {
      let why = ''
      client.on('error', (error) => {
        why ||= describeError(error)
      })
      client.once('close', () => resolve(why))
    })
  }

  /** @throws ManyhostError MANYHOST_START_FAILED; MANYHOST_UNSUPPORTED without the package ssh2 */
  static async open(
    target: SshTarget,
    settings: SshSettings,
    signal: AbortSignal,
  ): Promise<SshConnection> {
    const { Client: Made } = await loadSsh2()
    const client = new Made()
    const link = new SshConnection(client, hostNameOf(target), settings.connectTimeout)
    const refusal = { why: '' }
    const config = {
      ...buildConnectConfig(target, settings),
      ...verifyHost(target, settings, refusal),
    }
    await new Promise<void>((resolve, reject) => {
      const onAbort = (): void => {
        client.destroy()
        fail(signal.reason)
      }
      const fail = (cause: unknown): void => {
        signal.removeEventListener('abort', onAbort)
        client.destroy()
        const text = `cannot connect to ${link.name}: ${refusal.why || describeError(cause)}`
        reject(new ManyhostError('MANYHOST_START_FAILED', text, { cause }))
      }
      if (signal.aborted) return onAbort()
      signal.addEventListener('abort', onAbort, { once: true })
      client.once('ready', () => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      })
      client.once('error', fail)
      void link.closed.then((why) => fail(why || 'the host closed the connection'))
      try {
        client.connect(config)
      } catch (error) {
        fail(error)
      }
    })
    return link
  }

  async openShell(): Promise<RemoteShell> {
    // A login shell may print anything before it runs our command, so our command first prints a line that nobody else prints.
    const mark = `manyhost-${randomBytes(16).toString('hex')}`
    let shell: RemoteShell | undefined
    try {
      // The user's own shell may be of any kind: it only has to start this one.
      shell = await this.#exec(`exec sh -c ${quoteShellWord(`echo ${mark}; ${BOOTSTRAP}`)}`)
      const begun = skipToMark(shell.stdout, mark).then(() => true)
      begun.catch(() => {})
      if (await resolveWithin(this.#shellTimeoutMs, begun)) return shell
      throw new Error(
        `its login shell did not run our command within ${this.#shellTimeoutMs} ms; does it wait for input, or run another program?`,
      )
    } catch (cause) {
      shell?.destroy()
      const text = `no shell could be opened on ${this.name}: ${describeError(cause)}`
      throw new ManyhostError('MANYHOST_START_FAILED', text, { cause })
    }
  }

  #exec(command: string): Promise<RemoteShell> {
    return new Promise((resolve, reject) => {
      this.#client.exec(command, (error, channel) => {
        if (error) reject(error)
        else resolve(createShell(channel))
      })
    })
  }

  /** Connects to an address as seen from the host. */
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

  /** The scripts in its shells read the end of their input, and end their commands. */
  async close(): Promise<void> {
    this.#client.end()
    await this.closed
  }

  destroy(): void {
    this.#client.destroy()
  }
}

async function loadSsh2(): Promise<typeof import('ssh2')> {
  try {
    const loaded = await import('ssh2')
    return loaded.default as unknown as typeof import('ssh2')
  } catch (cause) {
    const text = "ssh needs the package ssh2: npm install 'ssh2@^1.17'"
    throw new ManyhostError('MANYHOST_UNSUPPORTED', text, { cause })
  }
}

function createShell(channel: ClientChannel): RemoteShell {
  channel.on('error', () => {})
  channel.stderr.on('error', () => {})
  const exit = new Promise<number | undefined>((resolve) => {
    channel.once('exit', (code: number | null, signal?: string) => {
      resolve(code ?? (signal === undefined ? undefined : exitCodeOfSignal(signal)))
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

function buildConnectConfig({ host, port, user }: SshTarget, settings: SshSettings): ConnectConfig {
  const { connectTimeout, keepalive } = settings
  const agent = settings.agent ?? process.env.SSH_AUTH_SOCK
  const key = readPrivateKey(settings)
  const { passphraseEnv } = settings
  if (passphraseEnv) excludeFromChildren(passphraseEnv)
  const passphrase = passphraseEnv && process.env[passphraseEnv]
  return {
    host,
    port,
    username: user,
    readyTimeout: connectTimeout,
    keepaliveInterval: Math.max(250, keepalive / MAX_UNANSWERED),
    keepaliveCountMax: MAX_UNANSWERED,
    ...(agent && { agent }),
    ...(key && { privateKey: key }),
    ...(passphrase && { passphrase }),
  }
}

function readPrivateKey({ key, keyEnv }: SshSettings): Buffer | string | undefined {
  if (keyEnv !== undefined) {
    excludeFromChildren(keyEnv)
    return process.env[keyEnv]
  }
  if (key !== undefined) return readKeyFile(key)
  for (const name of ['id_ed25519', 'id_ecdsa', 'id_rsa']) {
    const found = readIfThere(`${homedir()}/.ssh/${name}`)
    if (found) return found
  }
  return undefined
}

function readKeyFile(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (cause) {
    const text = `the private key cannot be read: ${describeError(cause)}`
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

/** The key of the host is always checked: there is no option to leave that out. */
function verifyHost(
  { host, port, fingerprint: pinned }: SshTarget,
  { knownHosts: paths }: SshSettings,
  refusal: { why: string },
): ConnectConfig {
  if (pinned !== undefined) {
    return {
      hostVerifier: (key: Buffer) => {
        const seen = fingerprintOf(key)
        if (seen === pinned.replace(/=$/, '')) return true
        refusal.why = `its key is ${seen}, but option fingerprint says ${pinned}`
        return false
      },
    }
  }
  const known = KnownHosts.read(paths)
  const types = known.keyTypes(host, port).flatMap(algorithmsOf)
  return {
    ...(types.length > 0 && { algorithms: { serverHostKey: types } }),
    hostVerifier: (key: Buffer) => {
      const verdict = known.checkKey(host, port, key)
      if (verdict === 'known') return true
      refusal.why =
        verdict === 'wrong'
          ? `its key ${fingerprintOf(key)} is not one of the known keys of this host in ${paths.join(', ')}`
          : `its key ${fingerprintOf(key)} is in none of ${paths.join(', ')}; add it, or set fingerprint`
      return false
    },
  }
}

function algorithmsOf(type: string): ServerHostKeyAlgorithm[] {
  if (type === 'ssh-rsa') return ['rsa-sha2-512', 'rsa-sha2-256']
  return type.startsWith('ssh-ed25519') || type.startsWith('ecdsa-sha2-')
    ? [type as ServerHostKeyAlgorithm]
    : []
}
