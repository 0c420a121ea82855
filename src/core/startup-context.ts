/**
 * Makes the context of a startup function safe for a function that forgets `await`. A failing `ctx.spawn(...)` without
 * `await` would be an unhandled rejection, which ends the whole program. Here the failure becomes a line of the instance's
 * output. A function that waits gets the rejection as usual.
 */
import { describeError } from './errors.ts'
import type { StartupContext } from './provider.ts'
import { yieldTurn } from './time.ts'

/** A promise that records whether its `then` was called. `await` calls `then` of a promise of another class. */
class ObservedPromise<T> extends Promise<T> {
  #isObserved = false

  /** `then` and `catch` return ordinary promises. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise
  }

  // biome-ignore lint/suspicious/noThenProperty: it is a promise
  override then<A = T, B = never>(
    onDone?: ((value: T) => A | PromiseLike<A>) | null,
    onFailed?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#isObserved = true
    return super.then(onDone, onFailed)
  }

  /** Calls `hear` with a rejection that nothing else handles. */
  whenUnobserved(hear: (error: unknown) => void): this {
    super.then(undefined, async (error) => {
      // The function may begin to wait in the turn in which the promise rejects.
      await yieldTurn()
      if (!this.#isObserved) hear(error)
    })
    return this
  }
}

/** Contexts that are safe already: both the session and a provider may call `createSafeContext`. */
const safeContexts = new WeakSet<StartupContext>()

export function createSafeContext(context: StartupContext): StartupContext {
  if (safeContexts.has(context)) return context
  const watched =
    <Args extends unknown[], T>(name: string, call: (...args: Args) => Promise<T>) =>
    (...args: Args): Promise<T> => {
      // A synchronous throw becomes a rejection, as in an async function.
      const observed = new ObservedPromise<T>((resolve) => resolve(call.apply(context, args)))
      return observed.whenUnobserved((error) => {
        const text = `ctx.${name}, which the startup function did not wait for, failed`
        context.log(`manyhost: ${text}: ${describeError(error)}`)
      })
    }
  const { env, signal, run, spawn, upload, download } = context
  const made: StartupContext = {
    env,
    signal,
    log: (text) => context.log(text),
    run: watched('run', run),
    spawn: watched('spawn', spawn),
    upload: watched('upload', upload),
    download: watched('download', download),
  }
  safeContexts.add(made)
  return made
}
