/** Connections to a port of a pod, each through the API server: for who cannot reach pods. */
import { Duplex } from 'node:stream'
import { awaitEnd } from '../half.ts'
import type { Api } from './api.ts'
import type { Channels } from './channels.ts'

const [DATA, ERROR] = [0, 1] as const
/** Each channel begins with the number of the port. */
const HEAD = 2
/** Most that is sent in one message, in bytes. */
const PIECE = 65_536

/** @throws ManyhostError MANYHOST_START_FAILED */
export async function forward(
  api: Api,
  namespace: string,
  pod: string,
  port: number,
): Promise<Duplex> {
  const path = `/api/v1/namespaces/${namespace}/pods/${pod}/portforward?ports=${port}`
  return new Forwarded(await api.channels(path))
}

class Forwarded extends Duplex {
  readonly #channels: Channels
  readonly #heads = [HEAD, HEAD]
  #said = ''
  #received = 0

  constructor(channels: Channels) {
    super({ allowHalfOpen: false })
    this.#channels = channels
    channels.listen((channel, data) => this.#take(channel, data))
    void channels.closed.then(() => {
      // Neither side can end its half alone, so the end of all is that of what was sent.
      if (this.#said === '') this.push(null)
      else this.destroy(refused(this.#said))
    })
  }

  #take(channel: number, data: Buffer): void {
    const head = Math.min(this.#heads[channel] ?? 0, data.length)
    if (channel === DATA || channel === ERROR)
      this.#heads[channel] = (this.#heads[channel] ?? 0) - head
    const rest = data.subarray(head)
    if (rest.length === 0) return
    if (channel === DATA) {
      this.#received += rest.length
      if (!this.push(rest)) this.#channels.pause()
    } else if (channel === ERROR) {
      this.#said = rest.toString().slice(0, 500)
      this.destroy(refused(this.#said))
    }
  }

  override _read(): void {
    this.#channels.resume()
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: (error?: Error | null) => void): void {
    if (chunk.length <= PIECE) return this.#channels.write(DATA, chunk, done)
    this.#channels.write(DATA, chunk.subarray(0, PIECE), (error) => {
      if (error) done(error)
      else this._write(chunk.subarray(PIECE), _, done)
    })
  }

  /** The pod is not told: it would be told that both halves have ended, and its answer would be lost. */
  override _final(done: (error?: Error | null) => void): void {
    done()
    awaitEnd(this, () => this.#received)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#channels.destroy()
    done(error)
  }
}

function refused(said: string): Error {
  return Object.assign(new Error(`the pod refuses the connection: ${said}`), {
    code: 'ECONNREFUSED',
  })
}
