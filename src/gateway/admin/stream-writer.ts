/** Responses without an end, for readers that may be slow. The waiting bytes and the number of readers are limited. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { destroyResponse } from '../../core/http/http-server.ts'
import { type AdminReply, httpProblemReply, writeReplyHead } from './reply.ts'

/** Bytes that may wait for a reader, beside those in the buffers of the kernel. */
const MAX_BUFFERED = 1_048_576
const MAX_READERS = 64

/** One such response. A reader that is too slow is disconnected, so that it knows that it missed something. */
export class AdminStreamWriter {
  readonly #response: ServerResponse
  readonly #ends: (() => void)[] = []

  constructor(response: ServerResponse) {
    this.#response = response
    response.once('close', () => {
      for (const end of this.#ends) end()
    })
  }

  write(text: string): void {
    if (this.#response.destroyed || this.#response.writableEnded) return
    this.#response.write(text)
    if (this.#response.writableLength > MAX_BUFFERED) destroyResponse(this.#response)
  }

  end(): void {
    this.#response.end()
  }

  /** Calls `callback` once, when the reader has gone away or the response has ended. */
  onEnd(callback: () => void): void {
    if (this.#response.destroyed) callback()
    else this.#ends.push(callback)
  }
}

export class AdminStreamWriters {
  #count = 0

  /** Starts the response and calls `start` with its writer. Returns a refusal if there are too many readers. */
  open(
    request: IncomingMessage,
    response: ServerResponse,
    type: string,
    start: (writer: AdminStreamWriter) => void,
  ): AdminReply | undefined {
    if (this.#count >= MAX_READERS)
      return httpProblemReply(503, `there are ${MAX_READERS} readers already`)
    writeReplyHead(response, 200, type)
    response.flushHeaders()
    if (request.method === 'HEAD') {
      response.end()
      return undefined
    }
    const writer = new AdminStreamWriter(response)
    this.#count++
    writer.onEnd(() => {
      this.#count--
    })
    start(writer)
    return undefined
  }
}
