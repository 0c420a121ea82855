/** Connections to a port of a pod, each through the API server, for programs that cannot reach pods themselves. */
import { Duplex } from 'node:stream'
import { closeWhenSilent } from '../shared/websocket-half-close.ts'
import type { KubernetesApi } from './api.ts'
import type { PodChannels } from './channels.ts'

const [DATA, ERROR] = [0, 1] as const
/** The data of each channel begins with the number of the port. */
const CHANNEL_HEAD_BYTES = 2
/** Longest message, in bytes. */
const MAX_MESSAGE_BYTES = 65_536

/** @throws ManyhostError MANYHOST_START_FAILED */
export async function openPortForward(
  api: KubernetesApi,
  namespace: string,
  pod: string,
  port: number,
): Promise<Duplex> {
  const path = `/api/v1/namespaces/${namespace}/pods/${pod}/portforward?ports=${port}`
  return new PortForwardStream(await api.openChannels(path))
}

class PortForwardStream extends Duplex {
  readonly #channels: PodChannels
  readonly #headBytesLeft = [CHANNEL_HEAD_BYTES, CHANNEL_HEAD_BYTES]
  #errorText = ''
  #received = 0

  constructor(channels: PodChannels) {
    super({ allowHalfOpen: false })
    this.#channels = channels
    channels.listen((channel, data) => this.#handleData(channel, data))
    void channels.closed.then(() => {
      // Neither side can end its half alone, so the end of the connection is the end of the data.
      if (this.#errorText === '') this.push(null)
      else this.destroy(createRefusedError(this.#errorText))
    })
  }

  #handleData(channel: number, data: Buffer): void {
    const head = Math.min(this.#headBytesLeft[channel] ?? 0, data.length)
    if (channel === DATA || channel === ERROR)
      this.#headBytesLeft[channel] = (this.#headBytesLeft[channel] ?? 0) - head
    const rest = data.subarray(head)
    if (rest.length === 0) return
    if (channel === DATA) {
      this.#received += rest.length
      if (!this.push(rest)) this.#channels.pause()
    } else if (channel === ERROR) {
      this.#errorText = rest.toString().slice(0, 500)
      this.destroy(createRefusedError(this.#errorText))
    }
  }

  override _read(): void {
    this.#channels.resume()
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: (error?: Error | null) => void): void {
    if (chunk.length <= MAX_MESSAGE_BYTES) return this.#channels.write(DATA, chunk, done)
    this.#channels.write(DATA, chunk.subarray(0, MAX_MESSAGE_BYTES), (error) => {
      if (error) done(error)
      else this._write(chunk.subarray(MAX_MESSAGE_BYTES), _, done)
    })
  }

  /** The end is not sent to the pod: it would mean that both halves have ended, and the response would be lost. */
  override _final(done: (error?: Error | null) => void): void {
    done()
    closeWhenSilent(this, () => this.#received)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#channels.destroy()
    done(error)
  }
}

function createRefusedError(reason: string): Error {
  return Object.assign(new Error(`the pod refuses the connection: ${reason}`), {
    code: 'ECONNREFUSED',
  })
}
