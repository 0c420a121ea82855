/** What the tests of the in-process provider and of the faults share. */
import { type Dispatcher, request } from 'undici'
import type { FaultOptions } from '../../providers/testing/fault-plan.ts'
import {
  type FaultyProvider,
  faults,
  inProcess,
  type NodeHandler,
} from '../../providers/testing/index.ts'
import type { Provider, Running, StartSpec } from '../../src/core/provider.ts'

const running: Running[] = []

/** Starts an instance `i1`, `i2`, ... of `http://calc`; `stopAll` stops it. */
export async function start(
  provider: Provider,
  spec: Partial<StartSpec> = {},
  signal = new AbortController().signal,
): Promise<Running> {
  const id = `i${running.length + 1}`
  const whole = { id, service: 'http://calc', env: {}, labels: {}, concurrency: 4, onOutput() {} }
  const started = await provider.start({ ...whole, ...spec }, { signal })
  running.push(started)
  return started
}

export async function stopAll(): Promise<void> {
  await Promise.all(running.splice(0).map((one) => one.stop(0)))
}

/** An instance behind faults, and how many requests it has served. */
export async function startFaulty(
  options: FaultOptions,
  handler: NodeHandler = (_req, res) => res.end('0123456789'),
): Promise<{ provider: FaultyProvider; one: Running; served: () => number | undefined }> {
  const inner = inProcess(handler, { style: 'node' })
  const provider = faults(inner, options)
  const one = await start(provider)
  return { provider, one, served: () => inner.instances[0]?.requests }
}

export function requestInstance(
  to: Running,
  path = '/',
  options: object = {},
): Promise<Dispatcher.ResponseData> {
  return request(`http://calc${path}`, { dispatcher: to.dispatcher, ...options })
}

/** The status of an answer that came whole, or the code of the error. */
export async function describeOutcome(to: Running): Promise<string> {
  try {
    const res = await requestInstance(to)
    // Not dump(): that one takes any end for a good one.
    await res.body.text()
    return String(res.statusCode)
  } catch (error) {
    return String((error as { code?: unknown }).code)
  }
}

/** What a handler is told, one word a call, for both of undici's shapes. */
export function recordHandlerCalls(
  to: Dispatcher,
  shape: 'old' | 'new',
  options: object = {},
): Promise<string[]> {
  return new Promise((resolve) => {
    const calls: string[] = []
    const say = (word: string): void => void calls.push(word)
    const end = (word: string): void => {
      say(word)
      setImmediate(() => resolve(calls))
    }
    const old: Dispatcher.DispatchHandler = {
      onConnect: () => say('start'),
      onHeaders: (status) => {
        say(String(status))
        return true
      },
      onData: (chunk) => {
        say(String(chunk))
        return true
      },
      onUpgrade: (status, _headers, socket) => {
        socket.destroy()
        end(`upgrade ${status}`)
      },
      onComplete: () => end('end'),
      onError: (error) => end((error as { code?: string }).code ?? error.message),
    }
    const now: Dispatcher.DispatchHandler = {
      onRequestStart: () => say('start'),
      onResponseStart: (_controller, status) => say(String(status)),
      onResponseData: (_controller, chunk) => say(String(chunk)),
      onRequestUpgrade: (_controller, status, _headers, socket) => {
        socket.destroy()
        end(`upgrade ${status}`)
      },
      onResponseEnd: () => end('end'),
      onResponseError: (_controller, error) =>
        end((error as { code?: string }).code ?? error.message),
    }
    to.dispatch({ method: 'GET', path: '/', ...options }, shape === 'old' ? old : now)
  })
}
