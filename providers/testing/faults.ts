/** A layer of faults around any provider: connections break, responses are late or wrong, starts fail, instances die. */
import type { Dispatcher } from 'undici'
import { asError, ManyhostError } from '../../src/core/errors.ts'
import type { Provider, Running } from '../../src/core/provider.ts'
import { waitForExit } from '../../src/core/provider-checks.ts'
import { after, sleep } from '../../src/core/time.ts'
import { sendAnswer } from './answer.ts'
import { FaultBreaker } from './breaker.ts'
import {
  checkFaults,
  type FaultCounts,
  type FaultOptions,
  planRequest,
  planStart,
  type RandomNumber,
  type RequestPlan,
  seededRandom,
} from './fault-plan.ts'

export interface FaultyProvider extends Provider {
  /** The faults that were injected so far. */
  readonly counts: FaultCounts
  /**
   * Replaces all faults from now on, also for instances that run already; `set({})` ends all faults. A `seed` restarts
   * the sequence; without one it goes on.
   * @throws ManyhostError MANYHOST_INVALID_OPTION; then nothing has changed
   */
  set(options: FaultOptions): void
}

/**
 * Adds faults to a provider. The same seed gives the same faults for the same requests in the same order.
 *
 * If a caller gives up a request while a `delay` holds it back, that takes effect when the delay is over.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function faults(provider: Provider, options: FaultOptions): FaultyProvider {
  const state = new FaultState(options)
  return {
    name: provider.name,
    capabilities: provider.capabilities,

    get counts() {
      return { ...state.counts }
    },

    set(next) {
      state.set(next)
    },

    async start(spec, { signal }) {
      const plan = planStart(state.options, state.startRandom)
      if (plan.delay > 0) {
        state.counts.startDelay++
        await sleep(plan.delay, signal)
      }
      if (plan.fails) {
        state.counts.startFailure++
        throw new ManyhostError('MANYHOST_START_FAILED', `injected fault: start of ${spec.id}`, {
          service: spec.service,
        })
      }
      return addFaults(await provider.start(spec, { signal }), state)
    },

    get limit() {
      return provider.limit
    },

    ...(provider.available && {
      available: (service: string) => provider.available?.(service) ?? Number.POSITIVE_INFINITY,
    }),
    ...(provider.onAvailable && {
      onAvailable: (listener: () => void) => provider.onAvailable?.(listener) ?? (() => {}),
    }),
    ...(provider.close && { close: () => provider.close?.() ?? Promise.resolve() }),
  }
}

class FaultState {
  readonly counts: Record<keyof FaultCounts, number> = {
    delay: 0,
    abort: 0,
    status: 0,
    kill: 0,
    startDelay: 0,
    startFailure: 0,
  }
  options: FaultOptions = {}
  requestRandom!: RandomNumber
  /** Starts have a sequence of their own, because nobody can determine how starts and requests interleave. */
  startRandom!: RandomNumber

  constructor(options: FaultOptions) {
    this.set({ ...options, seed: options?.seed ?? 1 })
  }

  set(options: FaultOptions): void {
    checkFaults(options)
    this.options = structuredClone(options)
    if (options.seed === undefined) return
    this.requestRandom = seededRandom(options.seed)
    this.startRandom = seededRandom(~options.seed)
  }
}

function addFaults(running: Running, state: FaultState): Running {
  let alive = true
  let killed = false
  const exited = waitForExit(running).then((exit) => {
    alive = false
    return killed ? { reason: 'killed', detail: 'injected fault' } : exit
  })

  const kill = (): void => {
    state.counts.kill++
    if (!alive) return
    killed = true
    // A failure of the stop is reported to whoever stops the instance later.
    running.stop(0).catch(() => {})
  }

  const send = (
    fault: RequestPlan['fault'],
    dispatch: Dispatcher.Dispatch,
    options: Dispatcher.DispatchOptions,
    handler: Dispatcher.DispatchHandler,
  ): boolean => {
    // A dead instance sends no response, not even a wrong one.
    if (!fault || !alive) return dispatch(options, handler)
    if (fault.kind === 'status') {
      state.counts.status++
      return sendAnswer(options, handler, fault.code)
    }
    const onBroken = fault.kind === 'kill' ? kill : () => void state.counts.abort++
    return dispatch(options, new FaultBreaker(handler, fault.after, onBroken))
  }

  const layer: Dispatcher.DispatcherComposeInterceptor = (dispatch) => (options, handler) => {
    const { delay, fault } = planRequest(state.options, state.requestRandom)
    if (delay === 0) return send(fault, dispatch, options, handler)
    state.counts.delay++
    after(delay, () => {
      try {
        send(fault, dispatch, options, handler)
      } catch (thrown) {
        // Nobody else can catch it here. The connections of undici fail in the same way, without a controller.
        handler.onResponseError?.(null as never, asError(thrown))
      }
    })
    return true
  }

  return {
    dispatcher: running.dispatcher.compose(layer),
    exited,
    ...(running.address !== undefined && { address: running.address }),
    ...(running.accepts && { accepts: async (signal) => running.accepts?.(signal) }),
    stop: (grace) => running.stop(grace),
  }
}
