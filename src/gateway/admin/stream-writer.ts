/** Answers without an end, to readers that may be slow: bounded in what waits for one, and in how many there are. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { destroyResponse } from '../../core/http/http-server.ts'
import { type AdminReply, httpProblemReply, writeReplyHead } from './reply.ts'

/** Bytes that may wait for a reader, beyond what the kernel keeps for it. */
const MAX_BUFFERED = 1_048_576
const MAX_READERS = 64

/** One such answer. A reader that is too slow is cut off, so that it knows that it missed something. */
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

  /** Called once, when the reader has gone or the answer has ended. */
  onEnd(callback: () => void): void {
    if (this.#response.destroyed) callback()
    else this.#ends.push(callback)
  }
}

export class AdminStreamWriters {
  #count = 0

  /** Hands the response to `flow`, or gives the answer to one reader too many. */
  open(
    request: IncomingMessage,
    response: ServerResponse,
    type: string,
    flow: (outflow: AdminStreamWriter) => void,
  ): AdminReply | undefined {
    if (this.#count >= MAX_READERS)
      return httpProblemReply(503, `${MAX_READERS} readers follow already`)
    writeReplyHead(response, 200, type)
    response.flushHeaders()
    if (request.method === 'HEAD') {
      response.end()
      return undefined
    }
    const outflow = new AdminStreamWriter(response)
    this.#count++
    outflow.onEnd(() => {
      this.#count--
    })
    flow(outflow)
    return undefined
  }
}
