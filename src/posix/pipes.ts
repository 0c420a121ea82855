/**
 * Pipes for the outputs of a child. Node gives children sockets, and a socket cannot be opened: `echo hi >/dev/stderr`
 * fails in such a child on Linux. Node cannot make pipes, but a shell can: each here-document is a pipe. So the guard
 * makes some, we open both ends by /proc/<guard>/fd, and the guard closes its own. A few pipes are kept in stock, so that
 * a start seldom waits.
 *
 * The two ends are opened one by one, so each has its own flags: our end does not block, the end of the child does.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { Socket } from 'node:net'
import { after, type Timer } from '../core/time.ts'
import type { Guard } from './guard.ts'
import { readLink } from './proc.ts'

/** The descriptors of the new pipes in the guard. */
const DESCRIPTORS = [3, 4, 5, 6, 7, 8]

/** The guard is asked for more pipes when fewer than this are in stock. */
const MIN_PIPES = 4

/** How long a start waits for a pipe before it uses a socket, in ms. */
const MAX_WAIT = 2_000

export interface Pipe {
  /** The end for the child. It blocks, as a program expects of its output. Close it when the child has it. */
  readonly writeEnd: number
  readonly readEnd: number
}

export class PipePool {
  readonly #guard: Guard
  readonly #pipes: Pipe[] = []
  readonly #waiting: ((pipe: Pipe | undefined) => void)[] = []
  /** True where there is no /proc, or where the shell keeps here-documents in files. */
  #isUnavailable = process.platform !== 'linux'
  #isRequested = false
  #timer: Timer | undefined

  constructor(guard: Guard) {
    this.#guard = guard
    const onStart = (): void => {
      this.#isRequested = false
      this.#requestPipes()
    }
    guard.setListeners(() => this.#collectPipes(), onStart)
  }

  /** Resolves with undefined where there is no pipe: the caller then uses the sockets of Node. */
  take(): Promise<Pipe | undefined> {
    const pipe = this.#pipes.pop()
    if (pipe || this.#isUnavailable) {
      this.#requestPipes()
      return Promise.resolve(pipe)
    }
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
      this.#requestPipes()
      this.#timer ??= after(MAX_WAIT, () => this.#resolveWaiting())
    })
  }

  /** Closes the pipes in stock. A later `take` asks for new ones. */
  close(): void {
    this.#isRequested = false
    this.#resolveWaiting()
    for (const pipe of this.#pipes.splice(0)) closePipe(pipe)
  }

  #requestPipes(): void {
    if (this.#isRequested || this.#isUnavailable || this.#guard.pid === undefined) return
    if (this.#pipes.length - this.#waiting.length >= MIN_PIPES) return
    this.#isRequested = true
    this.#guard.send('p')
  }

  #collectPipes(): void {
    if (!this.#isRequested) return
    this.#isRequested = false
    const made = DESCRIPTORS.flatMap((one) => openPipe(`/proc/${this.#guard.pid}/fd/${one}`) ?? [])
    this.#guard.send('c')
    this.#pipes.push(...made)
    while (this.#pipes.length > 0 && this.#waiting.length > 0) {
      this.#waiting.shift()?.(this.#pipes.pop())
    }
    if (made.length === 0) {
      const link = readLink(`/proc/${this.#guard.pid}/fd/${DESCRIPTORS[0]}`)
      this.#isUnavailable = link !== '' && !link.startsWith('pipe:')
      // If the link was a pipe, we are out of descriptors; if there was no link, the guard has just ended.
      this.#resolveWaiting()
    }
    if (this.#waiting.length === 0) this.#stopWaiting()
    this.#requestPipes()
  }

  #resolveWaiting(): void {
    this.#stopWaiting()
    for (const resolve of this.#waiting.splice(0)) resolve(undefined)
  }

  #stopWaiting(): void {
    this.#timer?.clear()
    this.#timer = undefined
  }
}

function openPipe(path: string): Pipe | undefined {
  if (!readLink(path).startsWith('pipe:')) return undefined
  let readEnd: number | undefined
  let writeEnd: number | undefined
  try {
    readEnd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    writeEnd = openSync(path, constants.O_WRONLY)
    // Reads the here-document itself, which is one empty line.
    readSync(readEnd, Buffer.alloc(8))
    return { readEnd, writeEnd }
  } catch {
    // For example, this process has no more descriptors.
    if (readEnd !== undefined) closeSync(readEnd)
    if (writeEnd !== undefined) closeSync(writeEnd)
    return undefined
  }
}

export function closePipe({ readEnd, writeEnd }: Pipe): void {
  closeSync(readEnd)
  closeSync(writeEnd)
}

/** Opens the stream of what a child writes. Call it once, when the child has the other end. */
export function openPipeReader({ readEnd, writeEnd }: Pipe): Socket {
  closeSync(writeEnd)
  return new Socket({ fd: readEnd, readable: true, writable: false })
}
