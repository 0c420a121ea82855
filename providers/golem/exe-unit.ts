/** The exe unit of a rented machine runs one command at a time. A command that got no answer is run again. */
import { randomBytes } from 'node:crypto'
import { exponentialDelay } from '../../src/core/backoff.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import { now, sleep } from '../../src/core/time.ts'
import type { RentedMachine } from './market.ts'
import { explainGolemError, type Golem } from './packages.ts'
import {
  type GolemCommandEvent,
  type GolemLaunch,
  launchScript,
  lookScript,
  type OutputProgress,
  parseLookOutput,
  signalScript,
} from './scripts.ts'

/** Longest time of one command, in ms. Copies of files have no limit. */
const COMMAND_TIMEOUT = 60_000

/** The pause between two tries, in ms. */
const RETRY_PAUSE = { min: 50, max: 1_000 }

/** Thrown when the machine is no longer rented. */
export class RentalLostError extends Error {}

export class GolemExeUnit {
  readonly #rented: RentedMachine
  readonly #id: string
  readonly #key: string
  readonly #lostAfter: number
  readonly #token = randomBytes(12).toString('hex')
  #turn: Promise<unknown> = Promise.resolve()
  #isClosed = false

  constructor(
    rented: RentedMachine,
    id: string,
    { key, lostAfter }: { key: string; lostAfter: number },
  ) {
    this.#rented = rented
    this.#id = id
    this.#key = key
    this.#lostAfter = lostAfter
  }

  /** No further command is run. */
  close(): void {
    this.#isClosed = true
  }

  /** Resolves when the command was started. @throws ManyhostError MANYHOST_START_FAILED */
  async launch(what: Omit<GolemLaunch, 'id'>): Promise<void> {
    const answer = (await this.runScript(launchScript({ ...what, id: this.#id }))).trim()
    if (/^@\d+$/.test(answer)) return
    const why = answer.startsWith('!')
      ? answer.slice(1)
      : `the shell of the machine gave an unknown answer: '${answer}'`
    const text = `${why} (on ${this.#rented.name})`
    throw new ManyhostError('MANYHOST_START_FAILED', text.slice(0, 1_000))
  }

  async signal(numbers: readonly number[], name: 'TERM' | 'KILL'): Promise<void> {
    if (numbers.length > 0) await this.runScript(signalScript(this.#id, numbers, name))
  }

  async look(seen: readonly OutputProgress[], ms: number): Promise<GolemCommandEvent[]> {
    return parseLookOutput(
      await this.runScript(lookScript(this.#id, seen, ms, this.#token)),
      seen,
      this.#token,
    )
  }

  /** Resolves with the output of the script. */
  runScript(script: string): Promise<string> {
    return this.runInTurn(async (exe) => {
      const options = { signalOrTimeout: COMMAND_TIMEOUT }
      const result = await exe.run('/bin/sh', ['-c', script], options)
      if (result.result !== 'Ok')
        throw new CommandRefusedError(String(result.message ?? 'no reason given'))
      return String(result.stdout ?? '')
    })
  }

  /** Runs the action after all earlier ones, and again until it is answered. @throws RentalLostError */
  runInTurn<T>(action: (exe: Golem.ExeUnit) => Promise<T>): Promise<T> {
    const done = this.#turn.then(() => this.#retry(action))
    this.#turn = done.catch(() => {})
    return done
  }

  async #retry<T>(action: (exe: Golem.ExeUnit) => Promise<T>): Promise<T> {
    let failedSince: number | undefined
    for (let failures = 0; ; failures++) {
      if (this.#isClosed) throw new RentalLostError('the instance has ended')
      try {
        return await action(this.#rented.exe)
      } catch (error) {
        if (this.#isClosed) throw new RentalLostError('the instance has ended')
        const isBusy = error instanceof CommandRefusedError && /busy/i.test(error.message)
        if (error instanceof CommandRefusedError && !isBusy) {
          const text = `${this.#rented.name} refused a command: ${error.message}`
          throw new ManyhostError('MANYHOST_START_FAILED', text.slice(0, 1_000))
        }
        failedSince ??= now()
        const why = await this.#rented.findEndReason().catch(() => undefined)
        if (why !== undefined) throw new RentalLostError(why)
        if (now() - failedSince > this.#lostAfter) {
          throw new RentalLostError(
            `no answer for ${this.#lostAfter} ms: ${explainGolemError(error, this.#key)}`,
          )
        }
        await sleep(exponentialDelay(failures, RETRY_PAUSE))
      }
    }
  }
}

/** The exe unit refused a command. To ask again would not help. */
export class CommandRefusedError extends Error {}
