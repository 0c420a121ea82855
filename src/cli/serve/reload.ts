/** A changed file, applied to what runs: all of it or, when it is wrong, none. */
import { stat } from 'node:fs/promises'
import { isDeepStrictEqual } from 'node:util'
import type { Logger } from 'pino'
import { applyConfig, type ToServiceOptions } from '../../config/apply.ts'
import type { Config } from '../../config/config.ts'
import { diffConfig } from '../../config/diff.ts'
import { asError } from '../../core/errors.ts'
import { fileFingerprint } from '../../core/fingerprint.ts'
import { every, type Timer } from '../../core/time.ts'
import type { Gateway, GatewayOptions } from '../../gateway/index.ts'
import type { Session } from '../../index.ts'
import { toFeedOptions } from './feed.ts'
import { type FleetFile, readFleetFile } from './fleet-file.ts'
import { collectSecrets, toConfigKeys } from './gateway-options.ts'
import type { ServeLog } from './log.ts'
import { warnOfUnprotectedServices } from './unprotected-services.ts'

/** Between two looks at a file that is watched: by looking, since editors and mounts replace files in many ways. */
const WATCH_INTERVAL_MS = 300

export interface ReloadTarget {
  readonly file: string
  readonly env: NodeJS.ProcessEnv
  readonly session: Session
  readonly gateways: readonly Gateway[]
  readonly toService: ToServiceOptions
  readonly log: ServeLog
}

export class Reloader {
  readonly #target: ReloadTarget
  readonly #logger: Logger
  /** What runs. */
  #running: Config
  /** What the rest was opened with: not all of it can be changed while it runs. */
  readonly #initial: FleetFile
  /** What the feed was last given. */
  #feedConfig: Config['feed']
  #isClosed = false
  #watchTimer: Timer | undefined

  constructor(served: ReloadTarget, first: FleetFile, running: Config) {
    this.#target = served
    this.#logger = served.log.logger
    this.#initial = first
    this.#running = running
    this.#feedConfig = first.config.feed
  }

  /**
   * Reads the file again and applies it at once, whatever of earlier files is still being applied: the newest one holds.
   * Resolves when it is in effect. Never rejects.
   */
  async reload(): Promise<void> {
    if (this.#isClosed) return
    const { file, env, session, toService, log } = this.#target
    let next: FleetFile
    try {
      next = readFleetFile(file, env)
    } catch (error) {
      this.#logger.error(
        { output: asError(error).message },
        `${file} is wrong: nothing was changed`,
      )
      return
    }
    log.setSecrets([...collectSecrets(this.#running), ...collectSecrets(next.config)])
    log.setLevel(next.config.log.level)
    this.#warnAboutRestartKeys(next.config, this.#updateGateways(next))
    warnOfUnprotectedServices(next.config, this.#logger)
    // Beside each other: identities may take their time to load.
    const feedUpdate = this.#updateFeed(next.config)
    const {
      succeeded: done,
      failed,
      running,
    } = await applyConfig(session, this.#running, next.config, toService)
    this.#running = running
    await feedUpdate
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
  #updateGateways({ gateways }: FleetFile): Set<string> {
    const open = this.#target.gateways
    const later = new Set<string>(gateways.length === open.length ? [] : ['gateway.listen'])
    for (const [index, gateway] of open.entries()) {
      const next = gateways[index] ?? { ...gateways[0], listen: undefined }
      for (const key of toConfigKeys(gateway.update(next as GatewayOptions))) later.add(key)
    }
    return later
  }

  /** Who may come, and what is kept: at once, for who is there as well. */
  async #updateFeed(next: Config): Promise<void> {
    const { feed } = this.#target.session
    const options = toFeedOptions(next)
    if (!feed || !options || isDeepStrictEqual(this.#feedConfig, next.feed)) return
    try {
      await feed.update(options)
      this.#feedConfig = next.feed
      this.#logger.info('feed: changed')
    } catch (error) {
      const { message } = asError(error)
      this.#logger.error(`feed: could not be changed, and is as it was: ${message}`)
    }
  }

  #warnAboutRestartKeys(next: Config, gateway: Iterable<string>): void {
    for (const key of [...diffConfig(this.#initial.config, next).needsRestart, ...gateway]) {
      this.#logger.warn({ key }, `${key} has changed: that takes effect at the next start`)
    }
  }

  /** Reloads whenever the file changes, and at once if it has changed since it was first read. */
  watch(): void {
    let seen = this.#initial.fingerprint
    let isLooking = false
    const look = async (): Promise<void> => {
      const now = await stat(this.#target.file)
      if (fileFingerprint(now) === seen || now.size === 0) return
      seen = fileFingerprint(now)
      void this.reload()
    }
    this.#watchTimer = every(WATCH_INTERVAL_MS, () => {
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
    this.#watchTimer?.clear()
  }
}
