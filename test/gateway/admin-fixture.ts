/** A session, a server with the admin handler on it, and a client that says what it wants to say. */
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  type InProcessProvider,
  inProcess,
  type NodeHandler,
} from '../../providers/testing/index.ts'
import { type AdminHandlerOptions, adminHandler } from '../../src/gateway/admin/handler.ts'
import { Session } from '../../src/index.ts'
import { waitUntil } from '../help.ts'

export interface AdminFixture extends AsyncDisposable {
  readonly session: Session
  readonly provider: InProcessProvider
  readonly server: Server
  readonly port: number
  readonly url: string
  ask(path: string, options?: Asked): Promise<AdminTestResponse>
}

interface Asked {
  readonly method?: string
  readonly headers?: Record<string, string>
  readonly body?: string | Buffer
}

// biome-ignore lint/suspicious/noExplicitAny: what a server answers is looked at by expect()
export type Json = any

export interface AdminTestResponse {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  readonly json: Json
}

export const JSON_TYPE = { 'content-type': 'application/json' }

export async function openAdminFixture(
  options: Partial<AdminHandlerOptions> = {},
  handler: NodeHandler = (_req, res) => void res.end('ok'),
): Promise<AdminFixture> {
  const provider = inProcess(handler)
  const session = new Session({ provider, tickInterval: 100 })
  const server = createServer(adminHandler(session, { metrics: session.metrics, ...options }))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return {
    session,
    provider,
    server,
    port,
    url: `http://127.0.0.1:${port}`,
    ask: (path, asked) => ask(port, path, asked),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await session.close({ force: true })
    },
  }
}

/** node:http and no fetch: a test says `Host` and `Origin` as it likes. */
function ask(port: number, path: string, asked: Asked = {}): Promise<AdminTestResponse> {
  const { method = 'GET', headers = {}, body } = asked
  return new Promise((resolve, reject) => {
    const call = request({ host: '127.0.0.1', port, path, method, headers, agent: false })
    call.once('error', reject)
    call.once('response', async (response) => {
      const text = (await response.toArray()).join('')
      const isJson = /json/.test(response.headers['content-type'] ?? '') && text !== ''
      resolve({
        status: response.statusCode ?? 0,
        headers: response.headers,
        text,
        json: isJson ? JSON.parse(text) : undefined,
      })
    })
    call.end(body)
  })
}

export async function waitUntilReady(session: Session, url: string, count: number): Promise<void> {
  const isReady = (): boolean =>
    session.cluster(url).instances.filter(({ state }) => state === 'ready').length === count
  await waitUntil(isReady, `${url} has ${count} ready instances`)
}

export interface ReceivedEvent {
  readonly event: string
  readonly data: Json
}

/** Reads server-sent events, or any text that does not end. */
export class EventStreamReader {
  readonly events: ReceivedEvent[] = []
  text = ''
  isOver = false
  readonly #abort = new AbortController()
  readonly headers: Promise<Headers>

  constructor(url: string, headers: Record<string, string> = {}) {
    this.headers = this.#read(url, headers)
  }

  async #read(url: string, headers: Record<string, string>): Promise<Headers> {
    const response = await fetch(url, { headers, signal: this.#abort.signal })
    void this.#take(response).catch(() => undefined)
    return response.headers
  }

  async #take(response: Response): Promise<void> {
    const decoder = new TextDecoder()
    let rest = ''
    try {
      for await (const chunk of response.body ?? []) {
        const text = decoder.decode(chunk, { stream: true })
        this.text += text
        const parts = (rest + text).split('\n\n')
        rest = parts.pop() ?? ''
        for (const part of parts) {
          const [, event] = /^event: (.*)$/m.exec(part) ?? []
          const [, data] = /^data: (.*)$/m.exec(part) ?? []
          if (event && data) this.events.push({ event, data: JSON.parse(data) })
        }
      }
    } finally {
      this.isOver = true
    }
  }

  /** The first event of that name that fits, waited for. */
  async next(event: string, fits: (data: Json) => boolean = () => true): Promise<Json> {
    const found = (): ReceivedEvent | undefined =>
      this.events.find((one) => one.event === event && fits(one.data))
    await waitUntil(() => found() !== undefined, `${event} comes that ${fits}`)
    return found()?.data
  }

  async waitForText(pattern: RegExp): Promise<void> {
    await waitUntil(() => pattern.test(this.text), `${pattern} is in what was read`)
  }

  close(): void {
    this.#abort.abort()
  }
}
