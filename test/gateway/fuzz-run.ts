/** Runs what `fuzz-plan.ts` draws, between a client and an instance that speak in bytes, and says what broke the rules. */
import { once } from 'node:events'
import { type ClientHttp2Stream, connect as connectTwo } from 'node:http2'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { fixed } from '../../providers/static.ts'
import { resetConnection } from '../../src/core/http/reset-connection.ts'
import { createGateway } from '../../src/gateway/index.ts'
import { SessionCore } from '../../src/session/session.ts'
import { runEventLoop, waitUntil } from '../help.ts'
import {
  describeFindings,
  findConnectionFault,
  findForeignBytes,
  findRepeats,
  findResponseFault,
} from './fuzz-check.ts'
import { type ConnectionPlan, headersOf, MAX_ATTEMPTS, type RequestPlan } from './fuzz-plan.ts'
import { onCleanup } from './gateway-fixture.ts'
import { parseFirstRequest } from './raw-instance.ts'

/** Milliseconds in which each connection has its answers, or has ended: far more than it takes. */
const LONGEST = 30_000

export async function openFuzzSetup() {
  const instance = await openInstance()
  const session = new SessionCore({ provider: fixed({ urls: [instance.url] }), tickInterval: 100 })
  session.on('error', () => undefined)
  const cluster = session.startup({
    url: 'http://calc',
    concurrency: 64,
    maxAttempts: MAX_ATTEMPTS,
    // There is one instance, and its faults are what the test is about.
    ejectAfter: 1_000_000,
  })
  const gateway = await createGateway(session, {
    listen: '127.0.0.1:0',
    drainTimeout: 50,
    // It would hide for a while that a client which has gone was not noticed.
    bodyRate: 0,
  })
  onCleanup(async () => {
    await gateway.close()
    await session.close({ force: true })
  })
  const port = Number(new URL(gateway.url).port)

  /** Runs one connection. Answers with what was wrong, and with all bytes. */
  const run = async (plan: ConnectionPlan): Promise<string | undefined> => {
    for (const request of plan.requests) instance.plans.set(request.id, request)
    const { wrong, got } = await (plan.isTwo ? runTwo(gateway.url, plan) : runOne(port, plan))
    const times = plan.requests.map(({ id }) => instance.executions.get(id) ?? 0)
    const why =
      wrong ??
      findForeignBytes(got, plan, instance.plans) ??
      plan.requests.map(findRepeats(times)).find(Boolean)
    return why && describeFindings(plan, why, { got, times })
  }

  /** Whether nothing is left of what was run, and a plain request is served. */
  const settle = async (): Promise<string | undefined> => {
    const isIdle = (): boolean => cluster.inFlight === 0 && cluster.requestQueue.isEmpty
    const idle = await waitUntil(isIdle, LONGEST).catch(() => false)
    if (!idle) return `${cluster.inFlight} slots and ${cluster.requestQueue.size} requests are left`
    instance.plans.clear()
    instance.executions.clear()
    const plain = { id: 'plain', method: 'GET', version: '1.1' } as const
    const { text } = await send(port, [
      'GET /calc/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    ])
    return /^HTTP\/1\.1 200 .*plain$/s.test(text) ? undefined : `${plain.id}: ${text.slice(0, 300)}`
  }
  return { run, settle }
}

async function openInstance() {
  const plans = new Map<string, RequestPlan>()
  const executions = new Map<string, number>()
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    let held = ''
    /** Of the request that is coming. */
    let begun: RequestPlan | true | undefined
    let isOver = false
    socket.on('error', () => undefined)
    socket.on('end', () => socket.end())
    socket.setEncoding('latin1')
    const answer = (plan: RequestPlan | true): void => {
      if (plan === true)
        return void socket.write('HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain')
      isOver = plan.answer.end !== 'keep'
      void writeAnswer(socket, plan)
    }
    socket.on('data', (chunk) => {
      if (isOver) return
      held += chunk
      while (!isOver) {
        const end = held.indexOf('\r\n\r\n')
        if (end < 0) return
        if (!begun) {
          const id = /^x-fuzz: (\w+)$/im.exec(held.slice(0, end))?.[1] ?? ''
          begun = plans.get(id) ?? true
          executions.set(id, (executions.get(id) ?? 0) + 1)
          if (begun !== true && begun.answer.isEarly) answer(begun)
        }
        const whole = parseFirstRequest(held)
        if (!whole) return
        held = held.slice(whole.length)
        if (begun === true || !begun.answer.isEarly) answer(begun)
        begun = undefined
      }
    })
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  onCleanup(async () => server.close())
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, plans, executions }
}

async function writeAnswer(socket: Socket, { answer }: RequestPlan): Promise<void> {
  for (const [index, piece] of answer.pieces.entries()) {
    if (index > 0) await runEventLoop(1)
    socket.write(piece, 'latin1')
  }
  if (answer.end === 'reset') resetConnection(socket)
  else if (answer.end !== 'keep') socket.end()
  if (answer.end !== 'fin-reset') return
  await new Promise((resolve) => setTimeout(resolve, 5))
  resetConnection(socket)
}

/** Else node:http2 ends the streams of some methods before their bodies. */
const OPEN = { endStream: false }

interface Outcome {
  readonly wrong?: string | undefined
  /** All that came. */
  readonly got: string
}

async function runOne(port: number, plan: ConnectionPlan): Promise<Outcome> {
  const { text, isHung, isReset } = await send(port, plan.pieces, plan.end)
  if (isHung) return { wrong: `the connection has not ended within ${LONGEST} ms`, got: text }
  if (typeof plan.end === 'object') return { got: text }
  try {
    return { wrong: findConnectionFault(plan, text, isReset), got: text }
  } catch (error) {
    return { wrong: String(error), got: text }
  }
}

async function runTwo(url: string, plan: ConnectionPlan): Promise<Outcome> {
  const session = connectTwo(url)
  session.on('error', () => undefined)
  const isGone = typeof plan.end === 'object'
  const streams = plan.requests.map((request) =>
    ask(session.request(headersOf(request), OPEN), request),
  )
  const all = Promise.all(streams.map(({ result }) => result))
  if (typeof plan.end === 'object') {
    await runEventLoop(plan.end.after)
    if (plan.end.how === 'reset') session.destroy()
    else for (const { stream } of streams) stream.close(8)
  }
  const isOver = await within(all)
  session.destroy()
  const results = streams.map(({ got }) => got())
  const got = results.map(({ status, body, code }) => `${status} ${code} ${body}`).join('\n')
  if (!isOver) return { wrong: `a stream has not ended within ${LONGEST} ms`, got }
  if (isGone) return { got }
  const wrong = plan.requests.map((request, index) => {
    const result = results[index] as (typeof results)[number]
    if (result.code !== 0 || result.status === 0) {
      return request.answer.kind === 'good'
        ? `no answer to ${request.id}, code ${result.code}`
        : undefined
    }
    return findResponseFault(request, result, true)
  })
  return { wrong: wrong.find(Boolean), got }
}

function ask(stream: ClientHttp2Stream, { body: sent }: RequestPlan) {
  let [status, body, isProblem] = [0, '', false]
  let id: string | undefined
  stream.setEncoding('latin1')
  stream.on('error', () => undefined)
  stream.on('response', (headers) => {
    status = headers[':status'] as number
    isProblem = headers['content-type'] === 'application/problem+json'
    id = headers['x-request-id'] as string | undefined
  })
  stream.on('data', (chunk) => {
    body += chunk
  })
  stream.end(sent)
  const result = new Promise<void>((resolve) => stream.on('close', () => resolve()))
  return { stream, result, got: () => ({ status, body, id, isProblem, code: stream.rstCode ?? 0 }) }
}

/** Sends pieces on one connection, and reads to its end. */
async function send(port: number, pieces: readonly string[], end: ConnectionPlan['end'] = 'wait') {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true })
  let text = ''
  socket.setEncoding('latin1')
  let isReset = false
  socket.on('error', () => {
    isReset = true
  })
  socket.on('data', (chunk) => {
    text += chunk
  })
  socket.on('end', () => socket.end())
  const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()))
  const most = typeof end === 'object' ? end.after : pieces.length
  for (let index = 0; index < most && !socket.destroyed; index++) {
    const piece = pieces[index]
    if (piece !== undefined && socket.writable) socket.write(piece, 'latin1')
    await runEventLoop(1)
  }
  if (end === 'half') socket.end()
  else if (typeof end === 'object') {
    if (end.how === 'fin') socket.destroy()
    else resetConnection(socket)
  }
  const isHung = !(await within(closed))
  socket.destroy()
  return { text, isHung, isReset }
}

async function within(promise: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), LONGEST)
  })
  const isOver = await Promise.race([promise.then(() => true), late])
  clearTimeout(timer)
  return isOver
}
