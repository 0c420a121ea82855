/** The node's end of a transfer: it asks for chunks, or sends them, through a service that the requestor has bound. */
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import type { WebSocket } from 'ws'
import { waitUntil } from '../../providers/process-help.ts'

interface Flexbuffers {
  encode(value: unknown): Uint8Array
  toObject(buffer: ArrayBuffer): { id: string; payload: Record<string, unknown> }
}

// The one that golem-js brings along: what it does not read, nobody needs to write.
const fromGolem = createRequire(import.meta.resolve('@golem-sdk/golem-js'))
const { encode, toObject } = fromGolem('flatbuffers/js/flexbuffers') as Flexbuffers

const CHUNK = 262_144

export class Transfers {
  /** By what they listen on: `/public/gftp/<id>`. */
  readonly #services = new Map<string, string>()
  readonly #sockets = new Map<string, WebSocket>()

  bind(on: string): string {
    const id = randomUUID()
    this.#services.set(on, id)
    return id
  }

  unbind(id: string): void {
    this.#sockets.get(id)?.close()
    this.#sockets.delete(id)
    for (const [on, one] of this.#services) if (one === id) this.#services.delete(on)
  }

  get bound(): number {
    return this.#services.size
  }

  attach(id: string, socket: WebSocket): void {
    this.#sockets.set(id, socket)
  }

  async fetch(url: string): Promise<Buffer> {
    const socket = await this.#socketOf(url)
    const { fileSize } = await ask(socket, 'GetMetadata', {})
    const parts: Buffer[] = []
    for (let offset = 0; offset < Number(fileSize); offset += CHUNK) {
      const { content } = await ask(socket, 'GetChunk', { offset, size: CHUNK })
      parts.push(Buffer.from(content as Uint8Array))
    }
    return Buffer.concat(parts)
  }

  async send(url: string, data: Buffer): Promise<void> {
    const socket = await this.#socketOf(url)
    for (let offset = 0; offset < data.length; offset += CHUNK) {
      const content = new Uint8Array(data.subarray(offset, offset + CHUNK))
      await ask(socket, 'UploadChunk', { chunk: { offset, content } })
    }
    const hash = createHash('sha3-256').update(data).digest('hex')
    await ask(socket, 'UploadFinished', { hash })
  }

  async #socketOf(url: string): Promise<WebSocket> {
    const on = `/public/gftp/${url.split('/').at(-1)}`
    return waitUntil(() => this.#sockets.get(this.#services.get(on) ?? '') ?? false)
  }
}

async function ask(socket: WebSocket, component: string, payload: object) {
  const id = randomUUID()
  socket.send(encode({ id, component, payload }))
  for (;;) {
    const [data] = (await once(socket, 'message')) as [Buffer]
    const answer = toObject(
      data.buffer.slice(data.byteOffset, data.byteOffset + data.length) as ArrayBuffer,
    )
    if (answer.id === id) return answer.payload ?? {}
  }
}
