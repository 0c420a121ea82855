/**
 * The context of a startup function, made safe for a function that does not wait for what it calls: a failing
 * `ctx.spawn(...)` without `await` would be an unhandled rejection, which ends the whole program. Here the failure is a
 * line of the instance's output instead. Whoever does wait gets the rejection as before.
 */
import { describeError } from './errors.ts'
import type { StartupContext } from './provider.ts'
import { yieldTurn } from './time.ts'

/** A promise that knows whether anybody waits for it. `await` calls `then` of a promise of another class. */
class ObservedPromise<T> extends Promise<T> {
  #isObserved = false

  /** What `then` and `catch` answer are usual promises. */
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

  /** Hears of a rejection that nobody else hears of. */
  whenUnobserved(hear: (error: unknown) => void): this {
    super.then(undefined, async (error) => {
      // Whoever waits may begin to do so in the turn in which it fails.
      await yieldTurn()
      if (!this.#isObserved) hear(error)
    })
    return this
  }
}

/** Contexts that are safe already: the session and the provider both make them so. */
const safeContexts = new WeakSet<StartupContext>()

export function createSafeContext(context: StartupContext): StartupContext {
  if (safeContexts.has(context)) return context
  const watched =
    <Args extends unknown[], T>(name: string, call: (...args: Args) => Promise<T>) =>
    (...args: Args): Promise<T> => {
      // Also what it throws at once is a rejection, as it is of an async function.
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
