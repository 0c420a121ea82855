/** Watches over a link: sends beats, and ends it when its peer is dead, idle, stalled or slow. */
import { every, now, type Timer } from '../core/time.ts'
import type { Link } from './link.ts'
import type { Settings } from './options.ts'

/** How often it looks, in ms. */
const LOOK = 1_000
/** Over how many ms the least rate is measured. */
const PACE = 10_000

/** What is known of a link at some time. Times are ms of one clock, as exact as looks are frequent. */
export interface Facts {
  readonly isExtended: boolean
  /** Ms between the peer's beats; 0: it does not beat. */
  readonly peerBeat: number
  /** Last time that bytes came, or that we began to read again. */
  readonly heardAt: number
  /** Whether it is us who do not read. */
  readonly isHeld: boolean
  /** Last time that bytes left, and whether some wait to. */
  readonly flushedAt: number
  readonly isSending: boolean
  readonly sentAt: number
  /** Whether conversations are under way. */
  readonly isBusy: boolean
  /** Since when the peer is in the middle of something, and how many bytes have come since. */
  readonly amidSince: number | undefined
  readonly amidBytes: number
}

export type Verdict = { readonly beat: boolean; readonly reason?: string }

/** What is to be done about it: a beat, an end, or nothing. */
export function judge(facts: Facts, at: number, settings: Settings): Verdict {
  const { beat, deadAfter, idleTimeout, stallTimeout, leastRate } = settings
  const silent = at - facts.heardAt
  if (facts.peerBeat > 0 && !facts.isHeld && silent >= Math.max(deadAfter, 2 * facts.peerBeat)) {
    return end(`the peer gave no sign of life for ${Math.round(silent)} ms`)
  }
  if (stallTimeout > 0 && facts.isSending && at - facts.flushedAt >= stallTimeout) {
    return end(`the peer read nothing for ${Math.round(at - facts.flushedAt)} ms`)
  }
  if (
    idleTimeout > 0 &&
    !facts.isBusy &&
    silent >= idleTimeout &&
    at - facts.sentAt >= idleTimeout
  ) {
    return end(`idle for ${Math.round(silent)} ms`)
  }
  const amid = facts.amidSince === undefined ? 0 : at - facts.amidSince
  if (
    leastRate > 0 &&
    !facts.isHeld &&
    amid >= PACE &&
    facts.amidBytes < (leastRate * amid) / 1_000
  ) {
    return end(
      `the peer sent ${facts.amidBytes} bytes in ${Math.round(amid)} ms, in the middle of a packet or blob`,
    )
  }
  return { beat: facts.isExtended && beat > 0 && at - facts.sentAt >= beat - LOOK }
}

function end(reason: string): Verdict {
  return { beat: false, reason }
}

/**
 * Its time passes only while it looks: one that stood still itself, stopped or busy for long, has not been listening, and
 * what was said meanwhile waits to be read.
 */
export class Vigil {
  readonly #link: Link
  #timer: Timer | undefined
  #interval = LOOK
  #lookedAt = 0
  #time = 0
  #heardAt = 0
  #received = 0
  #flushedAt = 0
  #flushed = 0
  #sentAt = 0
  #sent = 0
  #amidSince: number | undefined
  #amidFrom = 0

  constructor(link: Link) {
    this.#link = link
  }

  begin(): void {
    const { beat, deadAfter } = this.#link.settings
    const least = beat > 0 ? Math.min(beat, deadAfter) / 2 : LOOK
    this.#interval = Math.max(10, Math.min(LOOK, least))
    this.#lookedAt = now()
    this.#timer ??= every(this.#interval, () => this.#look())
  }

  end(): void {
    this.#timer?.clear()
    this.#timer = undefined
  }

  #look(): void {
    const { outlet, counts, settings, peer, socket } = this.#link
    const at = this.#pass()
    // While it is us who do not read, nobody is silent.
    if (counts.received !== this.#received || socket.isPaused()) this.#heardAt = at
    this.#received = counts.received
    if (outlet.flushed !== this.#flushed || outlet.isIdle) this.#flushedAt = at
    this.#flushed = outlet.flushed
    if (outlet.bytes !== this.#sent) this.#sentAt = at
    this.#sent = outlet.bytes
    this.#watchPace(at)
    const facts: Facts = {
      isExtended: peer.isExtended,
      peerBeat: peer.beat,
      heardAt: this.#heardAt,
      isHeld: socket.isPaused(),
      flushedAt: this.#flushedAt,
      isSending: !outlet.isIdle,
      sentAt: this.#sentAt,
      isBusy: this.#link.pending.size + this.#link.hosted.size > 0,
      amidSince: this.#amidSince,
      amidBytes: counts.received - this.#amidFrom,
    }
    const { beat, reason } = judge(facts, at, settings)
    if (reason !== undefined) void this.#link.disconnect(reason)
    // A peer that reads nothing is not to find a pile of beats.
    else if (beat && outlet.isIdle) outlet.packet('beat', '')
  }

  /** What is now, on its own clock. */
  #pass(): number {
    const at = now()
    this.#time += Math.min(at - this.#lookedAt, 2 * this.#interval)
    this.#lookedAt = at
    return this.#time
  }

  #watchPace(at: number): void {
    const { arrivals, counts, settings } = this.#link
    if (!arrivals.isAmid) this.#amidSince = undefined
    else {
      const isOver = this.#amidSince !== undefined && at - this.#amidSince >= PACE
      const isFast = counts.received - this.#amidFrom >= (settings.leastRate * PACE) / 1_000
      if (this.#amidSince !== undefined && !(isOver && isFast)) return
      this.#amidSince = at
      this.#amidFrom = counts.received
    }
  }
}
