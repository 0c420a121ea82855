/** The exe unit of a rented machine: one command at a time, each of which may be made again. */
import { randomBytes } from 'node:crypto'
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

/** How long one command may take, in ms, copies of files not counted. */
const COMMAND_TIMEOUT = 60_000

/** Longest pause between two tries, in ms. */
const MAX_RETRY_PAUSE = 1_000

/** Thrown when the machine is ours no more. */
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

  /** Nothing more is asked of it. */
  close(): void {
    this.#isClosed = true
  }

  /** Resolves when it was started. @throws ManyhostError MANYHOST_START_FAILED */
  async launch(what: Omit<GolemLaunch, 'id'>): Promise<void> {
    const said = (await this.#runScript(launchScript({ ...what, id: this.#id }))).trim()
    if (/^@\d+$/.test(said)) return
    const why = said.startsWith('!') ? said.slice(1) : `a shell could not be used: '${said}'`
    const text = `${why} (on ${this.#rented.name})`
    throw new ManyhostError('MANYHOST_START_FAILED', text.slice(0, 1_000))
  }

  async signal(numbers: readonly number[], name: 'TERM' | 'KILL'): Promise<void> {
    if (numbers.length > 0) await this.#runScript(signalScript(this.#id, numbers, name))
  }

  async look(seen: readonly OutputProgress[], ms: number): Promise<GolemCommandEvent[]> {
    return parseLookOutput(
      await this.#runScript(lookScript(this.#id, seen, ms, this.#token)),
      seen,
      this.#token,
    )
  }

  /** What the script printed. */
  #runScript(script: string): Promise<string> {
    return this.runInTurn(async (exe) => {
      const options = { signalOrTimeout: COMMAND_TIMEOUT }
      const result = await exe.run('/bin/sh', ['-c', script], options)
      if (result.result !== 'Ok')
        throw new CommandRefusedError(String(result.message ?? 'no reason given'))
      return String(result.stdout ?? '')
    })
  }

  runScript(script: string): Promise<string> {
    return this.#runScript(script)
  }

  /** In its turn, and again as long as the machine is ours. @throws RentalLostError */
  runInTurn<T>(action: (exe: Golem.ExeUnit) => Promise<T>): Promise<T> {
    const done = this.#turn.then(() => this.#retry(action))
    this.#turn = done.catch(() => {})
    return done
  }

  async #retry<T>(action: (exe: Golem.ExeUnit) => Promise<T>): Promise<T> {
    let failedSince: number | undefined
    for (let pause = 50; ; pause = Math.min(2 * pause, MAX_RETRY_PAUSE)) {
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
        await sleep(pause)
      }
    }
  }
}

/** What the exe unit said no to: asking again would not help. */
export class CommandRefusedError extends Error {}
