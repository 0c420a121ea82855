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

/** A conversation of either kind. */
export abstract class Conversation extends ConversationReceiver {
  /** Whether a blob is being sent: to an original peer, nothing may be sent between its pieces. */
  protected isSendingBlob = false

  /** @throws ManyhostError unless the stage allows sending */
  protected abstract assertMaySend(): void

  /**
   * Sends code, which the peer lands for its effect. Resolves when more may be sent.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, MANYHOST_WIRE_CLOSED, MANYHOST_WIRE_LIMIT
   */
  sendCode(code: CodeSource): Promise<void> {
    return this.#send('', code)
  }

  /** Sends a value, also a text, which the peer receives by `recvObj()`. */
  sendValue(value: unknown): Promise<void> {
    return this.#send('co_recv', repr(value))
  }

  /** Sends code, whose value the peer receives by `recvObj()`. Anything but text is sent as its own literal. */
  sendObj(code: unknown): Promise<void> {
    return this.#send('co_recv', codeToText(code))
  }

  /**
   * Sends raw bytes; the peer must know how many. Resolves when more may be sent. A buffer is not copied: do not change it
   * before the conversation is completed.
   * @throws ManyhostError MANYHOST_WIRE_STAGE, MANYHOST_WIRE_CLOSED, MANYHOST_WIRE_BLOB, and the errors of a stream
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

  async #send(direction: string, code: CodeSource): Promise<void> {
    if (typeof code === 'string' || code instanceof Uint8Array)
      return this.#sendText(direction, codeToText(code))
    for await (const text of iterateCode(code)) await this.#sendText(direction, text)
  }

  async #sendText(direction: string, text: string): Promise<void> {
    this.assertMaySend()
    this.link.sendPacket(direction, text)
    await this.link.sender.waitForDrain()
  }
}
