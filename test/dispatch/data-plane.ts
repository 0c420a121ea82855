/** A data plane without a cluster, for tests of the queue and of resends. */
import { Dispatcher } from 'undici'
import { ManyhostError } from '../../src/core/errors.ts'
import { Dispatch } from '../../src/dispatch/dispatch.ts'
import type { Exchange, RequestInput } from '../../src/dispatch/exchange.ts'
import type { DispatchSettings } from '../../src/dispatch/settings.ts'
import { Target } from '../../src/dispatch/target.ts'
import { seededRandom } from '../random.ts'

interface KeptRequest {
  readonly path: string
  answer(): void
  fail(): void
}

/** Keeps each request until the test says what becomes of it. */
class KeepingDispatcher extends Dispatcher {
  readonly kept: KeptRequest[] = []

  override dispatch(
    { path }: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
  ): boolean {
    const end = (): void => void this.kept.splice(this.kept.indexOf(one), 1)
    const one: KeptRequest = {
      path,
      answer: () => {
        end()
        handler.onHeaders?.(200, [], () => undefined, 'OK')
        handler.onComplete?.([])
      },
      fail: () => {
        end()
        handler.onError?.(new Error('it broke'))
      },
    }
    this.kept.push(one)
    handler.onConnect?.(end)
    return true
  }
}

const settings: DispatchSettings = {
  service: 'http://calc',
  maxQueue: 1_000,
  queueTimeout: 0,
  timeout: 0,
  attemptTimeout: 0,
  resend: 'always',
  maxAttempts: 5,
  holdLimit: 0,
  replayLimit: 0,
  hedge: undefined,
  balance: 'least-in-flight',
  fairness: undefined,
  ejectAfter: 3,
  random: seededRandom(7),
}

export interface SentRequest {
  readonly exchange: Exchange
  /** `answered`, or the error's code. */
  readonly outcome: string | undefined
}

/** A data plane whose instances do as the test says. They are never ejected: their probes pass. */
export function createDataPlane(
  ids: readonly string[],
  options: Partial<DispatchSettings> = {},
  slots = 1,
) {
  let changes = 0
  const dispatch = new Dispatch(
    { ...settings, ...options },
    {
      explain: () => 'a test',
      onQueueChange: () => {
        changes++
      },
      onDrained: () => undefined,
      onSuspect: () => undefined,
      onResend: () => undefined,
      onSettled: () => undefined,
    },
  )
  const targets: Target[] = []
  const dispatchers = new Map<string, KeepingDispatcher>()
  for (const id of ids) {
    const dispatcher = new KeepingDispatcher()
    dispatchers.set(id, dispatcher)
    targets.push(new Target(id, dispatcher, slots))
  }
  dispatch.resize(targets)
  const on = (id: string): KeptRequest[] => dispatchers.get(id)?.kept ?? []
  return {
    dispatch,
    targets,
    /** How often it was told that requests wait, or that none does. */
    changes: (): number => changes,
    give: (one: SentRequest): void =>
      one.exchange.cancel(new ManyhostError('MANYHOST_ABORTED', '')),
    /** Only these take requests from now on. */
    use(...some: string[]): void {
      for (const target of targets) target.open = some.includes(target.id)
      dispatch.resize(targets.filter(({ open }) => open))
    },
    /** Paths of what an instance has, oldest first. */
    at: (id: string): string[] => on(id).map(({ path }) => path),
    /** The oldest request that an instance has. */
    first: (id: string): KeptRequest | undefined => on(id)[0],
    send(path: string, more: Partial<RequestInput> = {}): SentRequest {
      const facts = { id: path, method: 'GET', path, headers: ['x-manyhost-attempt', '1'] }
      // It may end before `send` returns.
      let outcome: string | undefined
      const end = (how: string): void => {
        outcome = how
      }
      const exchange = dispatch.send(
        { ...facts, body: null, ...more },
        {
          onInfo: () => undefined,
          onHead: () => undefined,
          onData: () => undefined,
          onEnd: () => end('answered'),
          onUpgrade: () => undefined,
          onError: (error) => end((error as ManyhostError).code),
        },
      )
      return {
        exchange,
        get outcome() {
          return outcome
        },
      }
    },
  }
}
