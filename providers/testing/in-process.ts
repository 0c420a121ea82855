/** An in-process provider: a function as the server, no port, no child process; HTTP/1.1 at both ends all the same. */
import { ManyhostError } from '../../src/core/errors.ts'
import type { Provider, StartSpec } from '../../src/core/provider.ts'
import { sleep } from '../../src/core/time.ts'
import {
  createServe,
  type HandlerStyle,
  type NodeHandler,
  type Upgrade,
  type WebHandler,
} from './handler.ts'
import { type InProcessInstance, RunningInProcessInstance } from './instance.ts'
import { checkKeys, checkNumber, checkOneOf, invalid } from './options.ts'

export interface InProcessOptions {
  /**
   * How the handler is called. A handler with a rest parameter or defaults needs it: `Function.length` does not
   * count those.
   * @default `'node'` for a handler with 2 parameters or more, else `'web'`
   */
  readonly style?: HandlerStyle
  /** Takes upgraded connections, for either style. */
  readonly upgrade?: Upgrade
  /** Milliseconds that each start takes. @default 0 */
  readonly startDelay?: number
  /** So many starts fail, the first ones, with MANYHOST_START_FAILED. @default 0 */
  readonly failStarts?: number
}

export interface InProcessProvider extends Provider {
  /** The instances that live, in order of their start. */
  readonly instances: readonly InProcessInstance[]
}

/**
 * A provider whose instances are calls of `handler`. Its services have neither command nor startup function nor image.
 *
 * In TypeScript the parameters of an inline handler are those of `node:http` unless they are annotated,
 * `(request: WebRequest) => ...`, or `style: 'web'` is said.
 *
 * The handler learns which instance it is from `request.instance`. What it throws is answered with a 500, and the
 * stack goes to the instance's output; after the headers were sent, the connection is cut.
 *
 * Under a false clock leave `setImmediate` and `process.nextTick` alone: undici and node:http wait for them.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function inProcess(
  handler: WebHandler,
  options: InProcessOptions & { readonly style: 'web' },
): InProcessProvider
export function inProcess(handler: NodeHandler, options?: InProcessOptions): InProcessProvider
export function inProcess(handler: WebHandler, options?: InProcessOptions): InProcessProvider
export function inProcess(
  handler: WebHandler | NodeHandler,
  options: InProcessOptions = {},
): InProcessProvider {
  checkInProcess(handler, options)
  const { style, upgrade, startDelay = 0, failStarts = 0 } = options
  const serve = createServe(handler, style)
  const living = new Set<RunningInProcessInstance>()
  let starts = 0

  return {
    name: 'in-process',
    capabilities: new Set(),

    get instances() {
      return [...living].filter((instance) => !instance.ended)
    },

    async start(spec, { signal }) {
      checkSpec(spec)
      const nth = ++starts
      if (startDelay > 0) await sleep(startDelay, signal)
      signal.throwIfAborted()
      if (nth <= failStarts) {
        throw new ManyhostError(
          'MANYHOST_START_FAILED',
          `in-process: start ${nth} fails, for ${spec.id}: failStarts is ${failStarts}`,
          { service: spec.service },
        )
      }
      const instance = new RunningInProcessInstance(spec, serve, upgrade)
      living.add(instance)
      void instance.exited.then(() => living.delete(instance))
      return instance
    },

    async close() {
      await Promise.all([...living].map((instance) => instance.stop(0)))
    },
  }
}

function checkInProcess(handler: unknown, options: InProcessOptions): void {
  if (typeof handler !== 'function') invalid('the handler of inProcess', 'a function', handler)
  checkKeys('inProcess', options, ['style', 'upgrade', 'startDelay', 'failStarts'])
  const { style, upgrade, startDelay, failStarts } = options
  if (style !== undefined) checkOneOf('style', style, ['node', 'web'])
  if (upgrade !== undefined && typeof upgrade !== 'function') {
    invalid('upgrade', 'a function', upgrade)
  }
  if (startDelay !== undefined) checkNumber('startDelay', startDelay, {})
  if (failStarts !== undefined) checkNumber('failStarts', failStarts, { whole: true })
}

function checkSpec(spec: StartSpec): void {
  const asked = [
    spec.command && 'a command',
    spec.startup && 'a startup function',
    spec.image !== undefined && 'an image',
    spec.listen === 'unix' && 'a unix socket',
    spec.resources && 'resources',
  ].find(Boolean)
  if (!asked) return
  throw new ManyhostError(
    'MANYHOST_UNSUPPORTED',
    `in-process: an instance is a call of the handler, it has no use for ${asked}`,
    { service: spec.service },
  )
}
