/** A provider whose server is a function in this process: no port and no child process, but HTTP/1.1 at both ends. */
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
   * How the handler is called. A handler with a rest parameter or default values needs this option, because
   * `Function.length` does not count those parameters.
   * @default `'node'` for a handler with 2 parameters or more, else `'web'`
   */
  readonly style?: HandlerStyle
  /** Takes connections that ask for an upgrade, with both styles. */
  readonly upgrade?: Upgrade
  /** Milliseconds that each start takes. @default 0 */
  readonly startDelay?: number
  /** This many starts, the first ones, fail with MANYHOST_START_FAILED. @default 0 */
  readonly failStarts?: number
}

export interface InProcessProvider extends Provider {
  /** The running instances, in the order of their starts. */
  readonly instances: readonly InProcessInstance[]
}

/**
 * A provider whose instances call `handler`. Its services have no command, no startup function and no image.
 *
 * In TypeScript the parameters of an inline handler are those of `node:http`, unless they are annotated, as in
 * `(request: WebRequest) => ...`, or `style: 'web'` is set.
 *
 * `request.instance` tells the handler which instance it is. If the handler throws, the response is a 500 and the stack
 * goes to the output of the instance. If the headers were sent already, the connection is cut.
 *
 * With a false clock, leave `setImmediate` and `process.nextTick` real: undici and node:http wait for them.
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
          `in-process: start ${nth}, of ${spec.id}, fails because failStarts is ${failStarts}`,
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
    `in-process: the instances of ${spec.service} are calls of the handler, so they cannot have ${asked}`,
    { service: spec.service },
  )
}
