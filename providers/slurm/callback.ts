/**
 * Where jobs call back. A connection says in its first line what it is: a job that has begun, or one stream of a shell
 * that was asked for. Each job has a token of its own, which is good for one run: the server of a job that was requeued
 * is another one, and whoever it is that comes second is sent away.
 */
import { createServer, type Server, type Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { describe, ManyhostError } from '../../src/core/errors.ts'
import { digest, isSame } from '../../src/core/http-caller.ts'
import { afterIdly, type Timer } from '../../src/core/time.ts'
import { firstLine } from '../far/copy.ts'
import type { Machine, Shell } from '../far/machine.ts'

/** How long a connection may take to say what it is, and a shell to call back, in ms. */
const PATIENCE = 30_000

/** Connections that have not said yet what they are. */
const MOST_STRANGERS = 1_000

/** Idle milliseconds after which the system asks whether the other end is still there. */
const KEEPALIVE = 5_000

export class Callback {
  readonly #server: Server
  readonly #address: { readonly host: string; readonly port: number }
  readonly #expected = new Map<string, Expected>()
  readonly #sockets = new Set<Socket>()
  #strangers = 0
  #listening: Promise<number> | undefined

  constructor({ host, port = 0, listen = host }: { host: string; port?: number; listen?: string }) {
    this.#address = { host: listen, port }
    // The end of a shell's input is not that of its output.
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      void this.#take(socket)
    })
  }

  /** Resolves with the port. @throws ManyhostError MANYHOST_START_FAILED */
  listen(): Promise<number> {
    this.#listening ??= new Promise((resolve, reject) => {
      const { host, port } = this.#address
      this.#server.once('error', (cause) => {
        this.#listening = undefined
        const text = `slurm: jobs cannot call back: ${host}:${port}: ${describe(cause)}`
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
  expect(id: string, secret: string): Expected {
    const expected = new Expected(secret, () => this.#expected.delete(id))
    this.#expected.set(id, expected)
    return expected
  }

  close(): void {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
  }

  async #take(socket: Socket): Promise<void> {
    socket.on('error', () => {})
    if (this.#strangers >= MOST_STRANGERS) return void socket.destroy()
    this.#strangers++
    this.#sockets.add(socket)
    socket.once('close', () => this.#sockets.delete(socket))
    const timer = afterIdly(PATIENCE, () => socket.destroy())
    const line = await firstLine(socket).catch(() => '')
    timer.clear()
    this.#strangers--
    const [kind = '', token = '', ...rest] = line.split(' ')
    const at = token.lastIndexOf('.')
    const expected = this.#expected.get(token.slice(0, at))
    const isTaken = expected?.knows(token.slice(at + 1)) && expected.take(kind, rest, socket)
    if (!isTaken) socket.destroy()
  }
}

/** What a job says of itself when it begins. */
export interface Arrival {
  readonly job: string
  /** How often it was requeued. */
  readonly restarts: number
  readonly node: string
  readonly port: number
  /** The node's address, as seen from here. */
  readonly host: string
}

/** One job: first expected, then arrived, then over. */
export class Expected implements Machine {
  /** Resolves when the job calls. */
  readonly arrived: Promise<Arrival>
  /** Resolves with why when its connection has ended, or the job says that it is being ended. */
  readonly over: Promise<'cancelled' | 'gone'>
  /** Resolves when its time will be up soon. */
  readonly leaving: Promise<string>
  name = 'a job'
  /** Something of it was killed for want of memory. */
  ranOutOfMemory = false
  readonly #secret: Buffer
  readonly #onClose: () => void
  readonly #shells = new Map<string, HalfShell>()
  #count = 0
  #socket: Socket | undefined
  #isClosed = false
  #setArrived: (arrival: Arrival) => void = () => {}
  #setOver: (why: 'cancelled' | 'gone') => void = () => {}
  #setLeaving: (why: string) => void = () => {}

  constructor(secret: string, onClose: () => void) {
    this.#secret = digest(secret)
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

  knows(secret: string): boolean {
    return isSame(digest(secret), this.#secret)
  }

  /** False for what is not expected, as a second run of the same job. */
  take(kind: string, parts: readonly string[], socket: Socket): boolean {
    if (kind === 'job') return this.#arrive(parts, socket)
    const shell = this.#shells.get(parts[0] ?? '')
    if (!shell || (kind !== 'out' && kind !== 'err')) return false
    return shell.take(kind, socket)
  }

  #arrive([job = '', restarts = '', node = '', port = '']: readonly string[], socket: Socket) {
    if (this.#socket || this.#isClosed) return false
    this.#socket = socket
    this.name = node || socket.remoteAddress || 'its node'
    socket.setKeepAlive(true, KEEPALIVE)
    socket.write('welcome\n')
    void this.#listenTo(socket)
    const host = (socket.remoteAddress ?? '').replace(/^::ffff:/, '')
    this.#setArrived({ job, restarts: Number(restarts), node, port: Number(port), host })
    return true
  }

  async #listenTo(socket: Socket): Promise<void> {
    for (;;) {
      const line = await firstLine(socket).catch(() => '')
      if (line === '') break
      const [verb, number = '', code = '', why = ''] = line.split(' ')
      if (verb === 'exit') {
        if (why === 'memory') this.ranOutOfMemory = true
        this.#shells.get(number)?.ended(Number(code))
      } else if (verb === 'leaving') this.#setLeaving('the time limit of its job is near')
      else if (verb === 'ending') this.#setOver('cancelled')
    }
    this.#lost()
  }

  #lost(): void {
    this.#socket?.destroy()
    this.#setOver('gone')
    for (const shell of this.#shells.values()) shell.ended(undefined)
  }

  open(): Promise<Shell> {
    const socket = this.#socket
    if (!socket || socket.destroyed) {
      const text = `${this.name} cannot be asked for anything: its job has ended`
      return Promise.reject(new ManyhostError('MANYHOST_START_FAILED', text))
    }
    const number = String(++this.#count)
    const shell = new HalfShell(() => this.#shells.delete(number))
    this.#shells.set(number, shell)
    socket.write(`open ${number}\n`)
    return shell.whole(this.name)
  }

  /** Tells the job to end, and resolves when it has hung up. */
  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#onClose()
    const socket = this.#socket
    if (!socket || socket.destroyed) return
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()))
    const timer: Timer = afterIdly(HANG_UP, () => socket.destroy())
    socket.write('bye\n')
    await closed
    timer.clear()
  }
}

/** So long a job may take to end after it was told to, before nobody listens any more, in ms. */
const HANG_UP = 2_000

/** A shell until both of its streams have called back. */
class HalfShell {
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

  take(kind: 'out' | 'err', socket: Socket): boolean {
    if (kind === 'out' ? this.#out : this.#err) return false
    if (kind === 'out') this.#out = socket
    else this.#err = socket
    this.#onChange()
    return true
  }

  ended(code: number | undefined): void {
    this.#hasEnded = true
    this.#onEnd()
    this.#setExit(code)
    this.#onChange()
  }

  whole(name: string): Promise<Shell> {
    return new Promise((resolve, reject) => {
      const timer = afterIdly(PATIENCE, () => fail(`did not open a shell within ${PATIENCE} ms`))
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
          resolve(this.#made(out, err))
        } else if (this.#hasEnded) fail('ended before a shell was open')
      }
      this.#onChange()
    })
  }

  #made(out: Socket, err: Socket): Shell {
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
