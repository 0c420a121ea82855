/** The exe unit of a rented machine: one command at a time, each of which may be made again. */
import { randomBytes } from 'node:crypto'
import { ManyhostError } from '../../src/core/errors.ts'
import { now, sleep } from '../../src/core/time.ts'
import { explain, type Golem } from './client.ts'
import type { Rented } from './market.ts'
import { type Launch, launch, look, type News, read, type Seen, signal } from './script.ts'

/** How long one command may take, in ms, copies of files not counted. */
const PATIENCE = 60_000

/** Longest pause between two tries, in ms. */
const MAX_PAUSE = 1_000

/** Thrown when the machine is ours no more. */
export class Lost extends Error {}

export class Unit {
  readonly #rented: Rented
  readonly #id: string
  readonly #key: string
  readonly #lostAfter: number
  readonly #token = randomBytes(12).toString('hex')
  #turn: Promise<unknown> = Promise.resolve()
  #isOver = false

  constructor(rented: Rented, id: string, { key, lostAfter }: { key: string; lostAfter: number }) {
    this.#rented = rented
    this.#id = id
    this.#key = key
    this.#lostAfter = lostAfter
  }

  /** Nothing more is asked of it. */
  close(): void {
    this.#isOver = true
  }

  /** Resolves when it was started. @throws ManyhostError MANYHOST_START_FAILED */
  async launch(what: Omit<Launch, 'id'>): Promise<void> {
    const said = (await this.#run(launch({ ...what, id: this.#id }))).trim()
    if (/^@\d+$/.test(said)) return
    const why = said.startsWith('!') ? said.slice(1) : `a shell could not be used: '${said}'`
    const text = `${why} (on ${this.#rented.name})`
    throw new ManyhostError('MANYHOST_START_FAILED', text.slice(0, 1_000))
  }

  async signal(numbers: readonly number[], name: 'TERM' | 'KILL'): Promise<void> {
    if (numbers.length > 0) await this.#run(signal(this.#id, numbers, name))
  }

  async look(seen: readonly Seen[], ms: number): Promise<News[]> {
    return read(await this.#run(look(this.#id, seen, ms, this.#token)), seen, this.#token)
  }

  /** What the script printed. */
  #run(script: string): Promise<string> {
    return this.ask(async (exe) => {
      const options = { signalOrTimeout: PATIENCE }
      const result = await exe.run('/bin/sh', ['-c', script], options)
      if (result.result !== 'Ok') throw new Refused(String(result.message ?? 'no reason given'))
      return String(result.stdout ?? '')
    })
  }

  shell(script: string): Promise<string> {
    return this.#run(script)
  }

  /** In its turn, and again as long as the machine is ours. @throws Lost */
  ask<T>(action: (exe: Golem.ExeUnit) => Promise<T>): Promise<T> {
    const done = this.#turn.then(() => this.#persist(action))
    this.#turn = done.catch(() => {})
    return done
  }

  async #persist<T>(action: (exe: Golem.ExeUnit) => Promise<T>): Promise<T> {
    let failedSince: number | undefined
    for (let pause = 50; ; pause = Math.min(2 * pause, MAX_PAUSE)) {
      if (this.#isOver) throw new Lost('the instance has ended')
      try {
        return await action(this.#rented.exe)
      } catch (error) {
        if (this.#isOver) throw new Lost('the instance has ended')
        const isBusy = error instanceof Refused && /busy/i.test(error.message)
        if (error instanceof Refused && !isBusy) {
          const text = `${this.#rented.name} refused a command: ${error.message}`
          throw new ManyhostError('MANYHOST_START_FAILED', text.slice(0, 1_000))
        }
        failedSince ??= now()
        const why = await this.#rented.check().catch(() => undefined)
        if (why !== undefined) throw new Lost(why)
        if (now() - failedSince > this.#lostAfter) {
          throw new Lost(`no answer for ${this.#lostAfter} ms: ${explain(error, this.#key)}`)
        }
        await sleep(pause)
      }
    }
  }
}

/** What the exe unit said no to: asking again would not help. */
export class Refused extends Error {}
