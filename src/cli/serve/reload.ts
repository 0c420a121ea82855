/** A changed file, applied to what runs: all of it or, when it is wrong, none. */
import { stat } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import type { Logger } from 'pino'
import { applyConfig, type ToService } from '../../config/apply.ts'
import type { Config } from '../../config/config.ts'
import { diffConfig } from '../../config/diff.ts'
import { asError } from '../../core/errors.ts'
import { stampOf } from '../../core/fingerprint.ts'
import { every, type Timer } from '../../core/time.ts'
import type { Gateway, GatewayOptions } from '../../gateway/index.ts'
import type { Session } from '../../index.ts'
import { fileKeys, secretsOf } from './doors.ts'
import { feedOptions } from './feed.ts'
import { type Fleet, readFleet } from './fleet.ts'
import type { Log } from './log.ts'

/** Between two looks at a file that is watched: by looking, since editors and mounts replace files in many ways. */
const INTERVAL = 300

export interface Served {
  readonly file: string
  readonly env: NodeJS.ProcessEnv
  readonly session: Session
  readonly gateways: readonly Gateway[]
  readonly toService: ToService
  readonly log: Log
}

export class Reloader {
  readonly #served: Served
  readonly #logger: Logger
  /** What runs. */
  #running: Config
  /** What the rest was opened with: not all of it can be changed while it runs. */
  readonly #first: Fleet
  /** What the feed was last given. */
  #feed: Config['feed']
  #isClosed = false
  #watching: Timer | undefined

  constructor(served: Served, first: Fleet, running: Config) {
    this.#served = served
    this.#logger = served.log.logger
    this.#first = first
    this.#running = running
    this.#feed = first.config.feed
  }

  /**
   * Reads the file again and applies it at once, whatever of earlier files is still being applied: the newest one holds.
   * Resolves when it is in effect. Never rejects.
   */
  async reload(): Promise<void> {
    if (this.#isClosed) return
    const { file, env, session, toService, log } = this.#served
    let next: Fleet
    try {
      next = readFleet(file, env)
    } catch (error) {
      this.#logger.error(
        { output: asError(error).message },
        `${file} is wrong: nothing was changed`,
      )
      return
    }
    log.hide([...secretsOf(this.#running), ...secretsOf(next.config)])
    log.level(next.config.log.level)
    this.#tellOfLater(next.config, this.#reopen(next))
    // Beside each other: identities may take their time to load.
    const told = this.#retell(next.config)
    const { done, failed, running } = await applyConfig(
      session,
      this.#running,
      next.config,
      toService,
    )
    this.#running = running
    await told
    // Nobody wants to know of changes that the end of the session has cut off.
    if (this.#isClosed) return
    for (const { url, change } of done)
      this.#logger.info({ service: url, change }, `${url}: ${change}`)
    for (const { url, change, error } of failed) {
      const [first, ...output] = error.message.split('\n')
      const text = `${url}: could not be ${change}, and is as it was: ${first}`
      this.#logger.error(
        { service: url, change, ...(output.length > 0 && { output: output.join('\n') }) },
        text,
      )
    }
    const count =
      done.length === 0 && failed.length === 0 ? 'nothing to change' : `${done.length} changes`
    this.#logger.info(
      { changes: done.length, failures: failed.length },
      `${file} applied: ${count}`,
    )
  }

  /**
   * How services are found and who may use them, and what the gateways otherwise can change: at once, for the requests
   * that come from now on. The keys of what they cannot are the answer.
   */
  #reopen({ gateways }: Fleet): Set<string> {
    const open = this.#served.gateways
    const later = new Set<string>(gateways.length === open.length ? [] : ['gateway.listen'])
    for (const [index, gateway] of open.entries()) {
      const next = gateways[index] ?? { ...gateways[0], listen: undefined }
      for (const key of fileKeys(gateway.update(next as GatewayOptions))) later.add(key)
    }
    return later
  }

  /** Who may come, and what is kept: at once, for who is there as well. */
  async #retell(next: Config): Promise<void> {
    const { feed } = this.#served.session
    const options = feedOptions(next)
    if (!feed || !options || isDeepStrictEqual(this.#feed, next.feed)) return
    try {
      await feed.update(options)
      this.#feed = next.feed
      this.#logger.info('feed: changed')
    } catch (error) {
      const { message } = asError(error)
      this.#logger.error(`feed: could not be changed, and is as it was: ${message}`)
    }
  }

  #tellOfLater(next: Config, gateway: Iterable<string>): void {
    for (const key of [...diffConfig(this.#first.config, next).later, ...gateway]) {
      this.#logger.warn({ key }, `${key} has changed: that takes effect at the next start`)
    }
  }

  /** Reloads whenever the file changes, and at once if it has changed since it was first read. */
  watch(): void {
    let seen = this.#first.stamp
    let isLooking = false
    const look = async (): Promise<void> => {
      const now = await stat(this.#served.file)
      if (stampOf(now) === seen || now.size === 0) return
      seen = stampOf(now)
      void this.reload()
    }
    this.#watching = every(INTERVAL, () => {
      // A mount that hangs is asked once.
      if (isLooking) return
      isLooking = true
      // A file that is being replaced is gone for a moment.
      const ended = (): void => {
        isLooking = false
      }
      look().then(ended, ended)
    })
  }

  /** Nothing more is applied. What is being applied ends with the session. */
  close(): void {
    this.#isClosed = true
    this.#watching?.clear()
  }
}
