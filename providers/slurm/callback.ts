/**
 * The server that jobs call back. The first line of a connection says what it is: a job that has begun, or one stream of a
 * shell that was asked for. Each job has a token of its own, which is valid for one run only. A job that was requeued runs
 * another server, so its second connection is refused.
 */
import { createServer, type Server, type Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { deferred } from '../../src/core/deferred.ts'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import { digestSecret, isEqualDigest } from '../../src/core/http-caller.ts'
import { afterUnref, type Timer } from '../../src/core/time.ts'
import { readFirstLine } from '../shared/remote-shell/copy.ts'
import type { RemoteMachine, RemoteShell } from '../shared/remote-shell/machine.ts'

/** How long a connection may take to send its first line, and a shell to call back, in ms. */
const CALLBACK_TIMEOUT = 30_000

/** Maximum number of connections that have not sent their first line yet. */
const MAX_UNIDENTIFIED = 1_000

/** After this idle time the system asks whether the other end is still there, in ms. */
const KEEPALIVE_MS = 5_000

/** How long a job may take to close its connection after it was told to end, in ms. */
const CLOSE_TIMEOUT = 2_000

export class SlurmCallbackServer {
  readonly #server: Server
  readonly #address: { readonly host: string; readonly port: number }
  readonly #jobs = new Map<string, SlurmJobConnection>()
  readonly #sockets = new Set<Socket>()
  #numUnidentified = 0
  #listening: Promise<number> | undefined

  constructor({ host, port = 0, listen = host }: { host: string; port?: number; listen?: string }) {
    this.#address = { host: listen, port }
    // `allowHalfOpen`: a shell may still write when its input has ended.
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      void this.#identify(socket)
    })
  }

  /** Resolves with the port. @throws ManyhostError MANYHOST_START_FAILED */
  listen(): Promise<number> {
    this.#listening ??= new Promise((resolve, reject) => {
      const { host, port } = this.#address
      this.#server.once('error', (cause) => {
        this.#listening = undefined
        const text = `slurm: jobs cannot call back, because ${host}:${port} cannot be listened on (option callback): ${describeError(cause)}`
        reject(new ManyhostError('MANYHOST_START_FAILED', text, { cause }))
      })
      this.#server.listen(port, host, () => {
        const address = this.#server.address()
        resolve(typeof address === 'object' ? (address?.port ?? 0) : 0)
      })
    })
    return this.#listening
  }

  /** Expects the call of a job with this secret in its token. */
  expectJob(id: string, secret: string): SlurmJobConnection {
    const expected = new SlurmJobConnection(secret, () => this.#jobs.delete(id))
    this.#jobs.set(id, expected)
    return expected
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  async #identify(socket: Socket): Promise<void> {
    socket.on('error', () => {})
    if (this.#numUnidentified >= MAX_UNIDENTIFIED) return void socket.destroy()
    this.#numUnidentified++
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    const timer = afterUnref(CALLBACK_TIMEOUT, () => socket.destroy())
    const line = await readFirstLine(socket).catch(() => '')
    timer.clear()
    this.#numUnidentified--
    const [kind = '', token = '', ...rest] = line.split(' ')
    const at = token.lastIndexOf('.')
    const expected = this.#jobs.get(token.slice(0, at))
    const isAccepted =
      expected?.isSecret(token.slice(at + 1)) && expected.accept(kind, rest, socket)
    if (!isAccepted) socket.destroy()
  }
}

/** The first line of a job, and the address that it comes from. */
export interface SlurmJobArrival {
  readonly job: string
  /** How often the job was requeued. */
  readonly restarts: number
  readonly node: string
  readonly port: number
  /** The node's address, as seen from here. */
  readonly host: string
}

/** The connection of one job: first expected, then arrived, then over. */
export class SlurmJobConnection implements RemoteMachine {
  name = 'a job'
  /** Whether a process of the job was killed because it used too much memory. */
  ranOutOfMemory = false
  readonly #secret: Buffer
  readonly #onClose: () => void
  readonly #shells = new Map<string, PendingShell>()
  #count = 0
  #socket: Socket | undefined
  #isClosed = false
  readonly #arrived = deferred<SlurmJobArrival>()
  readonly #over = deferred<'cancelled' | 'gone'>()
  readonly #leaving = deferred<string>()

  constructor(secret: string, onClose: () => void) {
    this.#secret = digestSecret(secret)
    this.#onClose = onClose
  }

  /** Resolves when the job calls. */
  get arrived(): Promise<SlurmJobArrival> {
    return this.#arrived.promise
  }

  /** Resolves when the connection has ended, or when the job says that it is being cancelled. */
  get over(): Promise<'cancelled' | 'gone'> {
    return this.#over.promise
  }

  /** Resolves with the reason when the time limit of the job is near. */
  get leaving(): Promise<string> {
    return this.#leaving.promise
  }

  isSecret(secret: string): boolean {
    return isEqualDigest(digestSecret(secret), this.#secret)
  }

  /** False for a connection that is not expected, such as that of a second run of the job. */
  accept(kind: string, parts: readonly string[], socket: Socket): boolean {
    if (kind === 'job') return this.#acceptJob(parts, socket)
    const shell = this.#shells.get(parts[0] ?? '')
    if (!shell || (kind !== 'out' && kind !== 'err')) return false
    return shell.addStream(kind, socket)
  }

  #acceptJob([job = '', restarts = '', node = '', port = '']: readonly string[], socket: Socket) {
    if (this.#socket || this.#isClosed) return false
    this.#socket = socket
    this.name = node || socket.remoteAddress || 'its node'
    socket.setKeepAlive(true, KEEPALIVE_MS)
    socket.write('welcome\n')
    void this.#readMessages(socket)
    const host = (socket.remoteAddress ?? '').replace(/^::ffff:/, '')
    this.#arrived.resolve({ job, restarts: Number(restarts), node, port: Number(port), host })
    return true
  }

  async #readMessages(socket: Socket): Promise<void> {
    for (;;) {
      const line = await readFirstLine(socket).catch(() => '')
      if (line === '') break
      const [verb, number = '', code = '', why = ''] = line.split(' ')
      if (verb === 'exit') {
        if (why === 'memory') this.ranOutOfMemory = true
        this.#shells.get(number)?.markEnded(Number(code))
      } else if (verb === 'leaving') this.#leaving.resolve('the time limit of its job is near')
      else if (verb === 'ending') this.#over.resolve('cancelled')
    }
    this.#markLost()
  }

  #markLost(): void {
    this.#socket?.destroy()
    this.#over.resolve('gone')
    for (const shell of this.#shells.values()) shell.markEnded(undefined)
  }

  openShell(): Promise<RemoteShell> {
    const socket = this.#socket
    if (!socket || socket.destroyed) {
      const text = `no shell could be opened on ${this.name}: its job has ended`
      return Promise.reject(new ManyhostError('MANYHOST_START_FAILED', text))
    }
    const number = String(++this.#count)
    const shell = new PendingShell(() => this.#shells.delete(number))
    this.#shells.set(number, shell)
    socket.write(`open ${number}\n`)
    return shell.whenOpen(this.name)
  }

  /** Tells the job to end, and resolves when it has closed its connection. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#onClose()
    const socket = this.#socket
    if (!socket || socket.destroyed) return
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
    const timer: Timer = afterUnref(CLOSE_TIMEOUT, () => socket.destroy())
    socket.write('bye\n')
    await closed
    timer.clear()
  }
}

/** A shell until both of its streams have called back. */
class PendingShell {
  readonly #exit = deferred<number | undefined>()
  readonly #onEnd: () => void
  #onChange: () => void = () => {}
  #out: Socket | undefined
  #err: Socket | undefined
  #hasEnded = false

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd
  }

  addStream(kind: 'out' | 'err', socket: Socket): boolean {
    if (kind === 'out' ? this.#out : this.#err) return false
    if (kind === 'out') this.#out = socket
    else this.#err = socket
    this.#onChange()
    return true
  }

  markEnded(code: number | undefined): void {
    this.#hasEnded = true
    this.#onEnd()
    this.#exit.resolve(code)
    this.#onChange()
  }

  whenOpen(name: string): Promise<RemoteShell> {
    return new Promise((resolve, reject) => {
      const timer = afterUnref(CALLBACK_TIMEOUT, () =>
        fail(`did not open a shell within ${CALLBACK_TIMEOUT} ms`),
      )
      const fail = (why: string): void => {
        timer.clear()
        this.#onEnd()
        this.#out?.destroy()
        this.#err?.destroy()
        reject(new ManyhostError('MANYHOST_START_FAILED', `${name} ${why}`))
      }
      this.#onChange = () => {
        const [out, err] = [this.#out, this.#err]
        if (out && err) {
          timer.clear()
          this.#onChange = () => {}
          resolve(this.#createShell(out, err))
        } else if (this.#hasEnded) fail('ended before a shell was open')
      }
      this.#onChange()
    })
  }

  #createShell(out: Socket, err: Socket): RemoteShell {
    // The stream of errors has no input.
    err.end()
    const destroy = (): void => {
      out.destroy()
      err.destroy()
    }
    const [stdin, stdout, stderr]: [Writable, Readable, Readable] = [out, out, err]
    return { stdin, stdout, stderr, exit: this.#exit.promise, destroy }
  }
}
