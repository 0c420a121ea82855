/**
 * Where jobs call back. A connection says in its first line what it is: a job that has begun, or one stream of a shell
 * that was asked for. Each job has a token of its own, which is good for one run: the server of a job that was requeued
 * is another one, and whoever it is that comes second is sent away.
 */
import { createServer, type Server, type Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import { digestSecret, isEqualDigest } from '../../src/core/http-caller.ts'
import { afterUnref, type Timer } from '../../src/core/time.ts'
import { readFirstLine } from '../shared/remote-shell/copy.ts'
import type { RemoteMachine, RemoteShell } from '../shared/remote-shell/machine.ts'

/** How long a connection may take to say what it is, and a shell to call back, in ms. */
const CALLBACK_TIMEOUT = 30_000

/** Connections that have not said yet what they are. */
const MAX_UNIDENTIFIED = 1_000

/** Idle milliseconds after which the system asks whether the other end is still there. */
const KEEPALIVE_MS = 5_000

export class SlurmCallbackServer {
  readonly #server: Server
  readonly #address: { readonly host: string; readonly port: number }
  readonly #jobs = new Map<string, SlurmJobConnection>()
  readonly #sockets = new Set<Socket>()
  #numUnidentified = 0
  #listening: Promise<number> | undefined

  constructor({ host, port = 0, listen = host }: { host: string; port?: number; listen?: string }) {
    this.#address = { host: listen, port }
    // The end of a shell's input is not that of its output.
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
        const text = `slurm: jobs cannot call back: ${host}:${port}: ${describeError(cause)}`
        reject(new ManyhostError('MANYHOST_START_FAILED', text, { cause }))
      })
      this.#server.listen(port, host, () => {
        const address = this.#server.address()
        resolve(typeof address === 'object' ? (address?.port ?? 0) : 0)
      })
    })
    return this.#listening
  }

  /** A job is to come that has this token. */
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
    const isTaken = expected?.isSecret(token.slice(at + 1)) && expected.accept(kind, rest, socket)
    if (!isTaken) socket.destroy()
  }
}

/** What a job says of itself when it begins. */
export interface SlurmJobArrival {
  readonly job: string
  /** How often it was requeued. */
  readonly restarts: number
  readonly node: string
  readonly port: number
  /** The node's address, as seen from here. */
  readonly host: string
}

/** One job: first expected, then arrived, then over. */
export class SlurmJobConnection implements RemoteMachine {
  /** Resolves when the job calls. */
  readonly arrived: Promise<SlurmJobArrival>
  /** Resolves with why when its connection has ended, or the job says that it is being ended. */
  readonly over: Promise<'cancelled' | 'gone'>
  /** Resolves when its time will be up soon. */
  readonly leaving: Promise<string>
  name = 'a job'
  /** Something of it was killed for want of memory. */
  ranOutOfMemory = false
  readonly #secret: Buffer
  readonly #onClose: () => void
  readonly #shells = new Map<string, PendingShell>()
  #count = 0
  #socket: Socket | undefined
  #isClosed = false
  #setArrived: (arrival: SlurmJobArrival) => void = () => {}
  #setOver: (why: 'cancelled' | 'gone') => void = () => {}
  #setLeaving: (why: string) => void = () => {}

  constructor(secret: string, onClose: () => void) {
    this.#secret = digestSecret(secret)
    this.#onClose = onClose
    this.arrived = new Promise((resolve) => {
      this.#setArrived = resolve
    })
    this.over = new Promise((resolve) => {
      this.#setOver = resolve
    })
    this.leaving = new Promise((resolve) => {
      this.#setLeaving = resolve
    })
  }

  isSecret(secret: string): boolean {
    return isEqualDigest(digestSecret(secret), this.#secret)
  }

  /** False for what is not expected, as a second run of the same job. */
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
    this.#setArrived({ job, restarts: Number(restarts), node, port: Number(port), host })
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
      } else if (verb === 'leaving') this.#setLeaving('the time limit of its job is near')
      else if (verb === 'ending') this.#setOver('cancelled')
    }
    this.#markLost()
  }

  #markLost(): void {
    this.#socket?.destroy()
    this.#setOver('gone')
    for (const shell of this.#shells.values()) shell.markEnded(undefined)
  }

  openShell(): Promise<RemoteShell> {
    const socket = this.#socket
    if (!socket || socket.destroyed) {
      const text = `${this.name} cannot be asked for anything: its job has ended`
      return Promise.reject(new ManyhostError('MANYHOST_START_FAILED', text))
    }
    const number = String(++this.#count)
    const shell = new PendingShell(() => this.#shells.delete(number))
    this.#shells.set(number, shell)
    socket.write(`open ${number}\n`)
    return shell.whenOpen(this.name)
  }

  /** Tells the job to end, and resolves when it has hung up. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#onClose()
    const socket = this.#socket
    if (!socket || socket.destroyed) return
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
    const timer: Timer = afterUnref(HANG_UP_TIMEOUT, () => socket.destroy())
    socket.write('bye\n')
    await closed
    timer.clear()
  }
}

/** So long a job may take to end after it was told to, before nobody listens any more, in ms. */
const HANG_UP_TIMEOUT = 2_000

/** A shell until both of its streams have called back. */
class PendingShell {
  readonly #exit: Promise<number | undefined>
  readonly #onEnd: () => void
  #setExit: (code: number | undefined) => void = () => {}
  #onChange: () => void = () => {}
  #out: Socket | undefined
  #err: Socket | undefined
  #hasEnded = false

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd
    this.#exit = new Promise((resolve) => {
      this.#setExit = resolve
    })
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
    this.#setExit(code)
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
    // Nobody writes to it.
    err.end()
    const destroy = (): void => {
      out.destroy()
      err.destroy()
    }
    const [stdin, stdout, stderr]: [Writable, Readable, Readable] = [out, out, err]
    return { stdin, stdout, stderr, exit: this.#exit, destroy }
  }
}
