/**
 * Pipes for what a child writes. Node gives children sockets, and a socket cannot be opened: `echo hi >/dev/stderr` fails
 * in them on Linux. Node makes no pipes, but a shell does: each here-document is one. The guard makes some, we open both
 * ends by /proc/<guard>/fd, and the guard closes its own. A few are kept ahead, so that a start seldom waits.
 *
 * The ends are opened one by one, so each has flags of its own: ours does not block, that of the child does.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { Socket } from 'node:net'
import { after, type Timer } from '../core/time.ts'
import type { Guard } from './guard.ts'
import { linkOf } from './proc.ts'

/** The descriptors by which the guard holds new pipes. */
const DESCRIPTORS = [3, 4, 5, 6, 7, 8]

/** Fewer than these: more are made. */
const LOW = 4

/** How long a start waits for a pipe before a socket has to do, in ms. */
const LIMIT = 2_000

export interface Pipe {
  /** It blocks, as a program expects of its output. To be closed when the child has it. */
  readonly writeEnd: number
  readonly readEnd: number
}

export class PipeStock {
  readonly #guard: Guard
  readonly #stock: Pipe[] = []
  readonly #waiting: ((pipe: Pipe | undefined) => void)[] = []
  /** There is no /proc, or this machine's shell keeps here-documents in files. */
  #isUnable = process.platform !== 'linux'
  #isAsked = false
  #timer: Timer | undefined

  constructor(guard: Guard) {
    this.#guard = guard
    const onStart = (): void => {
      this.#isAsked = false
      this.#ask()
    }
    guard.listen(() => this.#collect(), onStart)
  }

  /** Nothing where no pipe is to be had: Node's own sockets have to do. */
  take(): Promise<Pipe | undefined> {
    const pipe = this.#stock.pop()
    if (pipe || this.#isUnable) {
      this.#ask()
      return Promise.resolve(pipe)
    }
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
      this.#ask()
      this.#timer ??= after(LIMIT, () => this.#giveUp())
    })
  }

  /** A later `take` begins anew. */
  close(): void {
    this.#isAsked = false
    this.#giveUp()
    for (const pipe of this.#stock.splice(0)) closePipe(pipe)
  }

  #ask(): void {
    if (this.#isAsked || this.#isUnable || this.#guard.pid === undefined) return
    if (this.#stock.length - this.#waiting.length >= LOW) return
    this.#isAsked = true
    this.#guard.tell('p')
  }

  #collect(): void {
    if (!this.#isAsked) return
    this.#isAsked = false
    const made = DESCRIPTORS.flatMap((one) => openPipe(`/proc/${this.#guard.pid}/fd/${one}`) ?? [])
    this.#guard.tell('c')
    this.#stock.push(...made)
    while (this.#stock.length > 0 && this.#waiting.length > 0) {
      this.#waiting.shift()?.(this.#stock.pop())
    }
    if (made.length === 0) {
      const link = linkOf(`/proc/${this.#guard.pid}/fd/${DESCRIPTORS[0]}`)
      this.#isUnable = link !== '' && !link.startsWith('pipe:')
      // Else we are out of descriptors, or the guard has just been ended.
      this.#giveUp()
    }
    if (this.#waiting.length === 0) this.#stopWaiting()
    this.#ask()
  }

  #giveUp(): void {
    this.#stopWaiting()
    for (const resolve of this.#waiting.splice(0)) resolve(undefined)
  }

  #stopWaiting(): void {
    this.#timer?.clear()
    this.#timer = undefined
  }
}

function openPipe(path: string): Pipe | undefined {
  if (!linkOf(path).startsWith('pipe:')) return undefined
  let readEnd: number | undefined
  let writeEnd: number | undefined
  try {
    readEnd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    writeEnd = openSync(path, constants.O_WRONLY)
    // The document itself: one empty line.
    readSync(readEnd, Buffer.alloc(8))
    return { readEnd, writeEnd }
  } catch {
    // Out of descriptors, say.
    if (readEnd !== undefined) closeSync(readEnd)
    if (writeEnd !== undefined) closeSync(writeEnd)
    return undefined
  }
}

export function closePipe({ readEnd, writeEnd }: Pipe): void {
  closeSync(readEnd)
  closeSync(writeEnd)
}

/** Reads what a child writes. To be called once, when the child has the other end. */
export function readPipe({ readEnd, writeEnd }: Pipe): Socket {
  closeSync(writeEnd)
  return new Socket({ fd: readEnd, readable: true, writable: false })
}
