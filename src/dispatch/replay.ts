/**
 * A request body that can be sent again. It is read from its source once, at the pace of the instance that reads it
 * first, and kept for the next attempt: up to a limit in memory, beyond that in a temporary file. Several readers may be
 * at different positions. The file is unlinked as soon as it is open, so that even `kill -9` leaves nothing behind.
 */
import { randomBytes } from 'node:crypto'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe } from '../core/describe.ts'
import { asError, describeError, ManyhostError } from '../core/errors.ts'
import { resolveWithin } from '../core/time.ts'
import { findBodyMisuse, markIteratorRead } from './body-use.ts'

/** A stream of chunks: bytes, or text as UTF-8. */
export type BodySource = AsyncIterable<unknown> | Iterable<unknown>

const READ_SIZE = 65_536

/** Milliseconds that a function of the caller may take to make a body. */
const BODY_FUNCTION_TIMEOUT = 60_000

/** Bytes of one write. A chunk of a socket is 64 KiB, and each write is a round trip to another thread. */
const WRITE_BATCH = 524_288

/** Bytes that may wait for the disk, beside those being written. Beyond that a slow disk slows the source down. */
const MAX_UNWRITTEN = 1_048_576

export class Replay {
  /** The error of the source, or of the disk. */
  error: ManyhostError | undefined
  readonly #source: BodySource | (() => unknown)
  readonly #limit: number
  readonly #keep: boolean
  #iterator: AsyncIterator<unknown> | Iterator<unknown> | undefined
  #memory: Buffer[] = []
  #inMemory = 0
  #file: FileHandle | undefined
  #inFile = 0
  /** How many bytes of `#inFile` can be read back. */
  #onDisk = 0
  /** Chunks whose write has not begun. */
  #unwritten: Buffer[] = []
  #unwrittenBytes = 0
  /** The write that is under way. Only a reader that reads back, or is far ahead of the disk, waits for it. */
  #writing: Promise<void> | undefined
  /** The chunk that was read last, and its position in the file: the leading reader does not read it back. */
  #lastChunk: Buffer | undefined
  #lastChunkAt = -1
  #ended = false
  #pulling: Promise<void> | undefined
  #disposed = false

  /**
   * @param source chunks; or a function that makes a new body for each attempt, of which nothing is kept
   * @param limit bytes to keep in memory
   * @param keep false if no second attempt can follow: then nothing is kept
   */
  constructor(source: BodySource | (() => unknown), limit: number, keep: boolean) {
    this.#source = source
    this.#limit = limit
    this.#keep = keep
  }

  /** Reads the body from its beginning. */
  open(): AsyncIterable<Buffer> {
    if (typeof this.#source === 'function') return this.#readMade(this.#source)
    if (!this.#keep && this.#iterator) {
      this.#fail(new Error('it was read once and was not kept for a second attempt'))
    }
    return this.#read()
  }

  /** Releases the file and the source. Idempotent. */
  dispose(): void {
    if (this.#disposed) return
    this.#disposed = true
    this.#memory = []
    this.#unwritten = []
    this.#lastChunk = undefined
    this.#close()
    if (!this.#ended && typeof this.#source !== 'function') void this.#abandon(this.#source)
  }

  #close(): void {
    void this.#file?.close().catch(() => undefined)
    this.#file = undefined
  }

  /** Tells a source that was not read to its end that it will not be read further. */
  async #abandon(source: BodySource): Promise<void> {
    try {
      if ('destroy' in source && typeof source.destroy === 'function') source.destroy()
      else if (this.#iterator) await this.#iterator.return?.()
      else if ('cancel' in source && typeof source.cancel === 'function') await source.cancel()
    } catch {
      // The source was told. An error of its own cleanup concerns no request.
    }
  }

  async *#readMade(make: () => unknown): AsyncGenerator<Buffer> {
    try {
      const made = await settleInTime(make())
      if (made === null || made === undefined) return
      if (typeof made === 'string' || made instanceof Uint8Array) {
        yield toBytes(made)
        return
      }
      const iterator = iteratorOf(sourceOf(made))
      const iterable = { [Symbol.asyncIterator]: () => iterator as AsyncIterator<unknown> }
      for await (const chunk of iterable) yield toBytes(chunk)
    } catch (thrown) {
      throw this.#fail(thrown)
    }
  }

  async *#read(): AsyncGenerator<Buffer> {
    let index = 0
    let position = 0
    for (;;) {
      if (this.#disposed) return
      if (!this.#keep && this.error) throw this.error
      if (index < this.#memory.length) {
        yield this.#memory[index++] as Buffer
      } else if (position < this.#inFile) {
        const piece = await this.#readPiece(position)
        position += piece.length
        yield piece
      } else if (this.error) {
        throw this.error
      } else if (this.#ended) {
        return
      } else {
        this.#pulling ??= this.#pull().finally(() => {
          this.#pulling = undefined
        })
        await this.#pulling
        if (!this.#keep && this.#lastChunk) {
          yield this.#lastChunk
          this.#lastChunk = undefined
        }
      }
    }
  }

  async #readPiece(position: number): Promise<Buffer> {
    if (position === this.#lastChunkAt && this.#lastChunk) return this.#lastChunk
    while (position >= this.#onDisk) {
      this.#writing ??= this.#write(1)
      await this.#writing
      if (this.error) throw this.error
    }
    const buffer = Buffer.allocUnsafe(Math.min(READ_SIZE, this.#onDisk - position))
    const { bytesRead } = await (this.#file as FileHandle).read(buffer, 0, buffer.length, position)
    return buffer.subarray(0, bytesRead)
  }

  /** Takes the next chunk from the source and keeps it. Never rejects: readers check `error`. */
  async #pull(): Promise<void> {
    try {
      this.#iterator ??= iteratorOf(this.#source as BodySource)
      const { done, value } = await this.#iterator.next()
      if (done) this.#ended = true
      else await this.#store(toBytes(value))
    } catch (thrown) {
      this.#ended = true
      this.#fail(thrown)
    }
  }

  async #store(chunk: Buffer): Promise<void> {
    if (chunk.length === 0 || this.#disposed) return
    if (!this.#keep) {
      this.#lastChunk = chunk
    } else if (!this.#file && this.#inMemory + chunk.length <= this.#limit) {
      this.#memory.push(chunk)
      this.#inMemory += chunk.length
    } else {
      while (this.#writing && this.#unwrittenBytes >= MAX_UNWRITTEN) await this.#writing
      if (this.#disposed || this.error) return
      this.#file ??= await openUnlinkedFile()
      // The request ended while the file was created.
      if (this.#disposed) return this.#close()
      this.#unwritten.push(chunk)
      this.#unwrittenBytes += chunk.length
      this.#lastChunk = chunk
      this.#lastChunkAt = this.#inFile
      this.#inFile += chunk.length
      if (this.#unwrittenBytes >= WRITE_BATCH) this.#writing ??= this.#write(WRITE_BATCH)
    }
  }

  /** Writes waiting chunks to the disk until less than `minBytes` wait. Never rejects: readers check `error`. */
  async #write(minBytes: number): Promise<void> {
    try {
      while (this.#unwrittenBytes >= minBytes && !this.#disposed) {
        const chunks = this.#unwritten
        const length = this.#unwrittenBytes
        this.#unwritten = []
        this.#unwrittenBytes = 0
        await writeAll(this.#file as FileHandle, chunks, length, this.#onDisk)
        this.#onDisk += length
      }
    } catch (thrown) {
      if (!this.#disposed) this.#fail(thrown)
    }
    this.#writing = undefined
  }

  #fail(thrown: unknown): ManyhostError {
    const text = `the request's body failed while it was read: ${describeError(thrown)}`
    this.error ??= new ManyhostError('MANYHOST_BODY_FAILED', text, { cause: asError(thrown) })
    return this.error
  }
}

/** Settles what a function of the caller made. The instance waits with a slot, so a promise that never settles must end. */
async function settleInTime(made: unknown): Promise<unknown> {
  if (!(made instanceof Promise)) return made
  const settled = await resolveWithin(
    BODY_FUNCTION_TIMEOUT,
    made.then((value: unknown) => ({ value })),
  )
  if (settled) return settled.value
  throw new Error(
    `the function that makes the body did not finish within ${BODY_FUNCTION_TIMEOUT} ms`,
  )
}

/** Opens a temporary file that no other process can open, and that is gone when its handle is closed. */
async function openUnlinkedFile(): Promise<FileHandle> {
  const path = join(tmpdir(), `manyhost-body-${randomBytes(12).toString('hex')}`)
  const file = await open(path, 'wx+', 0o600)
  await unlink(path)
  return file
}

/** Writes all chunks: one call may write less than it was given. */
async function writeAll(file: FileHandle, chunks: Buffer[], length: number, at: number) {
  let { bytesWritten } = await file.writev(chunks, at)
  if (bytesWritten === length) return
  const whole = Buffer.concat(chunks, length)
  while (bytesWritten < length) {
    bytesWritten += (await file.write(whole, bytesWritten, undefined, at + bytesWritten))
      .bytesWritten
  }
}

/** @throws TypeError for what is not a body */
function sourceOf(made: unknown): BodySource {
  if (made instanceof Blob) return made.stream() as unknown as BodySource
  if (made instanceof ArrayBuffer) return [made]
  if (made instanceof URLSearchParams) return [made.toString()]
  if (typeof made === 'object' && made !== null) {
    if (Symbol.asyncIterator in made || Symbol.iterator in made) return made as BodySource
  }
  throw new TypeError(
    `the function must make a text, bytes, a stream or an iterable, got ${describe(made)}`,
  )
}

/** @throws Error for a source that was read by something else in the meantime */
function iteratorOf(source: BodySource): AsyncIterator<unknown> | Iterator<unknown> {
  const why = findBodyMisuse(source)
  if (why !== undefined) throw new Error(why)
  const iterator =
    Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]()
  markIteratorRead(source, iterator)
  return iterator
}

function toBytes(chunk: unknown): Buffer {
  if (typeof chunk === 'string') return Buffer.from(chunk)
  if (Buffer.isBuffer(chunk)) return chunk
  if (ArrayBuffer.isView(chunk))
    return Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength)
  if (chunk instanceof ArrayBuffer) return Buffer.from(chunk)
  throw new TypeError(`the chunks of a body must be strings or bytes, got ${describe(chunk)}`)
}
