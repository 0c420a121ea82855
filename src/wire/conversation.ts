/** The sending half of a conversation, posted or hosted. */

import { ConversationReceiver } from './receiver.ts'
import { repr } from './repr.ts'
import { BLOB_PIECE_BYTES } from './sender.ts'
import {
  type BlobSource,
  type CodeSource,
  codeToText,
  iterateBuffers,
  iterateCode,
} from './source.ts'

/** A conversation of either kind, as `ho.co` answers it. */
export abstract class Conversation extends ConversationReceiver {
  /** Whether a blob is being sent: without packets around it, nothing else may come between. */
  protected isSendingBlob = false

  /** Fails unless it has the right to send now. */
  protected abstract assertMaySend(): void

  /**
   * Sends code that the peer lands for its effect. Resolves when more may be sent.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, MANYHOST_WIRE_CLOSED, MANYHOST_WIRE_LIMIT
   */
  sendCode(code: CodeSource): Promise<void> {
    return this.#send('', code)
  }

  /** Sends a value, a text too, that the peer gets by `recvObj()`. */
  sendValue(value: unknown): Promise<void> {
    return this.#send('co_recv', repr(value))
  }

  /** Sends code whose value the peer gets by `recvObj()`; anything but text is sent as the literal of itself. */
  sendObj(code: unknown): Promise<void> {
    return this.#send('co_recv', codeToText(code))
  }

  /**
   * Sends bytes as they are; the peer has to know how many. Resolves when more may be sent; a buffer must stay as it is
   * until the conversation is completed, for it is not copied.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, MANYHOST_WIRE_CLOSED, MANYHOST_WIRE_BLOB, and what a stream fails with
   */
  async sendData(source: BlobSource): Promise<void> {
    this.assertMaySend()
    this.isSendingBlob = true
    if (source instanceof Uint8Array) await this.#sendBuffer(source)
    else for await (const buffer of iterateBuffers(source)) await this.#sendBuffer(buffer)
    this.isSendingBlob = false
  }

  async #sendBuffer(buffer: Uint8Array): Promise<void> {
    for (let at = 0; at < buffer.length; at += BLOB_PIECE_BYTES) {
      this.assertMaySend()
      this.link.sender.sendBlobPiece(
        buffer.length <= BLOB_PIECE_BYTES ? buffer : buffer.subarray(at, at + BLOB_PIECE_BYTES),
      )
      await this.link.sender.waitForDrain()
    }
  }

  async #send(dir: string, code: CodeSource): Promise<void> {
    if (typeof code === 'string' || code instanceof Uint8Array)
      return this.#sendText(dir, codeToText(code))
    for await (const one of iterateCode(code)) await this.#sendText(dir, one)
  }

  async #sendText(dir: string, text: string): Promise<void> {
    this.assertMaySend()
    this.link.sendPacket(dir, text)
    await this.link.sender.waitForDrain()
  }
}
