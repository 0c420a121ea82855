/** The sending half of a conversation, posted or hosted. */

import { Inlet } from './inlet.ts'
import { PIECE } from './outlet.ts'
import { repr } from './repr.ts'
import { buffers, type Code, codes, type Source, textOf } from './source.ts'

/** A conversation of either kind, as `ho.co` answers it. */
export abstract class Conversation extends Inlet {
  /** Whether a blob is being sent: without packets around it, nothing else may come between. */
  protected isAmidBlob = false

  /** Fails unless it has the right to send now. */
  protected abstract mustSend(): void

  /**
   * Sends code that the peer lands for its effect. Resolves when more may be sent.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, MANYHOST_WIRE_CLOSED, MANYHOST_WIRE_LIMIT
   */
  sendCode(code: Code): Promise<void> {
    return this.#send('', code)
  }

  /** Sends a value, a text too, that the peer gets by `recvObj()`. */
  sendValue(value: unknown): Promise<void> {
    return this.#send('co_recv', repr(value))
  }

  /** Sends code whose value the peer gets by `recvObj()`; anything but text is sent as the literal of itself. */
  sendObj(code: unknown): Promise<void> {
    return this.#send('co_recv', textOf(code))
  }

  /**
   * Sends bytes as they are; the peer has to know how many. Resolves when more may be sent; a buffer must stay as it is
   * until the conversation is completed, for it is not copied.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, MANYHOST_WIRE_CLOSED, MANYHOST_WIRE_BLOB, and what a stream fails with
   */
  async sendData(source: Source): Promise<void> {
    this.mustSend()
    this.isAmidBlob = true
    if (source instanceof Uint8Array) await this.#sendBuffer(source)
    else for await (const buffer of buffers(source)) await this.#sendBuffer(buffer)
    this.isAmidBlob = false
  }

  async #sendBuffer(buffer: Uint8Array): Promise<void> {
    for (let at = 0; at < buffer.length; at += PIECE) {
      this.mustSend()
      this.link.outlet.blob(buffer.length <= PIECE ? buffer : buffer.subarray(at, at + PIECE))
      await this.link.outlet.flowing()
    }
  }

  async #send(dir: string, code: Code): Promise<void> {
    if (typeof code === 'string' || code instanceof Uint8Array)
      return this.#sendText(dir, textOf(code))
    for await (const one of codes(code)) await this.#sendText(dir, one)
  }

  async #sendText(dir: string, text: string): Promise<void> {
    this.mustSend()
    this.link.send(dir, text)
    await this.link.outlet.flowing()
  }
}
