/** One request to a service by each way into it: the client, the dispatcher, the gateway. */
import { onTestFinished } from 'vitest'
import { createGateway } from '../../src/gateway/index.ts'
import type { ManyhostError, Session } from '../../src/index.ts'
import { cleanUp, connectRaw, splitResponse } from '../gateway/gateway-fixture.ts'

export interface EntryOutcome {
  /** Of the answer; of the problem, by the gateway; of the error, else. */
  readonly status: number
  /** Of the error or the problem; absent for an answer that came whole. */
  readonly code?: string
  readonly body: string
}

export const ENTRIES = ['client', 'dispatcher', 'gateway'] as const
export type EntryPoint = (typeof ENTRIES)[number]

/** `method http://calc/`, with `body` unless it is a GET. */
export async function requestThrough(
  front: EntryPoint,
  session: Session,
  method: 'GET' | 'POST',
  body = 'content',
): Promise<EntryOutcome> {
  if (front === 'gateway') return requestByGateway(session, method, body)
  const send = front === 'client' ? requestByClient : requestByDispatcher
  try {
    return await send(session, method, method === 'POST' ? body : undefined)
  } catch (error) {
    const { status, code } = error as ManyhostError
    return { status, code, body: '' }
  }
}

async function requestByClient(session: Session, method: string, body: string | undefined) {
  const res = await session
    .client()
    .request(method, 'http://calc/', body === undefined ? {} : { body })
  return { status: res.status, body: await res.text() }
}

async function requestByDispatcher(session: Session, method: string, body: string | undefined) {
  const { statusCode, body: got } = await session
    .dispatcher()
    .request({ origin: 'http://calc', path: '/', method: method as 'GET', body: body ?? null })
  return { status: statusCode, body: await got.text() }
}

/** With the chunks of an answer as they are, so that it can be seen whether the last one came. */
async function requestByGateway(
  session: Session,
  method: string,
  body: string,
): Promise<EntryOutcome> {
  const gateway = await createGateway(session, { listen: '127.0.0.1:0', drainTimeout: 50 })
  onTestFinished(async () => {
    await cleanUp()
    await gateway.close()
  })
  const wire = await connectRaw(
    Number(new URL(gateway.url).port),
    `${method} /calc/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n` +
      (method === 'POST' ? `Content-Length: ${body.length}\r\n\r\n${body}` : '\r\n'),
  )
  const text = await wire.end()
  // Informational answers come first.
  const final = text.replace(/^(HTTP\/1.1 1\d\d [\s\S]*?\r\n\r\n)+/, '')
  const { status, head, body: got } = splitResponse(final)
  const code = /"code":"(\w+)"/.exec(got)?.[1]
  if (code !== undefined) return { status, code, body: '' }
  const chunked = head.includes('transfer-encoding: chunked')
  if (chunked && !got.endsWith('0\r\n\r\n')) {
    return { status, code: 'MANYHOST_RESPONSE_INTERRUPTED', body: '' }
  }
  return { status, body: chunked ? got.replace(/\r?\n?[0-9a-f]+\r\n/g, '').trim() : got }
}
