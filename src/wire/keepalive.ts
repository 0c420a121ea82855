/** Watches over a link: sends beats, and ends it when its peer is dead, idle, stalled or slow. */
import type { Duplex } from 'node:stream'
import { every, now, type Timer } from '../core/time.ts'
import type { LinkCounts, WirePeer } from './link-types.ts'
import type { WireSettings } from './options.ts'
import type { PacketSender } from './sender.ts'

/** How often it looks, in ms. */
const CHECK_INTERVAL_MS = 1_000
/** Over how many ms the least rate is measured. */
const RATE_WINDOW_MS = 10_000

/** What is known of a link at some time. Times are ms of one clock, as exact as looks are frequent. */
export interface LivenessFacts {
  readonly isExtended: boolean
  /** Ms between the peer's beats; 0: it does not beat. */
  readonly peerBeatInterval: number
  /** Last time that bytes came, or that we began to read again. */
  readonly lastReceivedAt: number
  /** Whether it is us who do not read. */
  readonly isReadPaused: boolean
  /** Last time that bytes left, and whether some wait to. */
  readonly lastFlushedAt: number
  readonly isSending: boolean
  readonly lastSentAt: number
  /** Whether conversations are under way. */
  readonly isBusy: boolean
  /** Since when the peer is in the middle of something, and how many bytes have come since. */
  readonly partialSince: number | undefined
  readonly partialBytes: number
}

export type LivenessVerdict = { readonly isBeatDue: boolean; readonly reason?: string }

/** What is to be done about it: a beat, an end, or nothing. */
export function checkLiveness(
  facts: LivenessFacts,
  at: number,
  settings: WireSettings,
): LivenessVerdict {
  const { beat, deadAfter, idleTimeout, stallTimeout, minRate } = settings
  const silent = at - facts.lastReceivedAt
  if (
    facts.peerBeatInterval > 0 &&
    !facts.isReadPaused &&
    silent >= Math.max(deadAfter, 2 * facts.peerBeatInterval)
  ) {
    return endVerdict(`the peer gave no sign of life for ${Math.round(silent)} ms`)
  }
  if (stallTimeout > 0 && facts.isSending && at - facts.lastFlushedAt >= stallTimeout) {
    return endVerdict(`the peer read nothing for ${Math.round(at - facts.lastFlushedAt)} ms`)
  }
  if (
    idleTimeout > 0 &&
    !facts.isBusy &&
    silent >= idleTimeout &&
    at - facts.lastSentAt >= idleTimeout
  ) {
    return endVerdict(`idle for ${Math.round(silent)} ms`)
  }
  const amid = facts.partialSince === undefined ? 0 : at - facts.partialSince
  if (
    minRate > 0 &&
    !facts.isReadPaused &&
    amid >= RATE_WINDOW_MS &&
    facts.partialBytes < (minRate * amid) / 1_000
  ) {
    return endVerdict(
      `the peer sent ${facts.partialBytes} bytes in ${Math.round(amid)} ms, in the middle of a packet or blob`,
    )
  }
  return {
    isBeatDue: facts.isExtended && beat > 0 && at - facts.lastSentAt >= beat - CHECK_INTERVAL_MS,
  }
}

function endVerdict(reason: string): LivenessVerdict {
  return { isBeatDue: false, reason }
}

/** The link, as its keepalive sees it. */
interface KeptAliveLink {
  readonly settings: WireSettings
  readonly sender: PacketSender
  readonly counts: LinkCounts
  readonly peer: WirePeer
  readonly socket: Duplex
  readonly pending: { readonly size: number }
  readonly hosted: { readonly size: number }
  readonly demultiplexer: { readonly isMidMessage: boolean }
  disconnect(reason: string): Promise<void>
}

/**
 * Its time passes only while it looks: one that stood still itself, stopped or busy for long, has not been listening, and
 * what was said meanwhile waits to be read.
 */
export class WireKeepalive {
  readonly #link: KeptAliveLink
  #timer: Timer | undefined
  #interval = CHECK_INTERVAL_MS
  #checkedAt = 0
  #clock = 0
  #lastReceivedAt = 0
  #receivedBytes = 0
  #lastFlushedAt = 0
  #flushedBytes = 0
  #lastSentAt = 0
  #sentBytes = 0
  #partialSince: number | undefined
  #partialFromBytes = 0

  constructor(link: KeptAliveLink) {
    this.#link = link
  }

  start(): void {
    const { beat, deadAfter } = this.#link.settings
    const least = beat > 0 ? Math.min(beat, deadAfter) / 2 : CHECK_INTERVAL_MS
    this.#interval = Math.max(10, Math.min(CHECK_INTERVAL_MS, least))
    this.#checkedAt = now()
    this.#timer ??= every(this.#interval, () => this.#check())
  }

  stop(): void {
    this.#timer?.clear()
    this.#timer = undefined
  }

  #check(): void {
    const { sender: outlet, counts, settings, peer, socket } = this.#link
    const at = this.#advanceClock()
    // While it is us who do not read, nobody is silent.
    if (counts.received !== this.#receivedBytes || socket.isPaused()) this.#lastReceivedAt = at
    this.#receivedBytes = counts.received
    if (outlet.flushedBytes !== this.#flushedBytes || outlet.isIdle) this.#lastFlushedAt = at
    this.#flushedBytes = outlet.flushedBytes
    if (outlet.sentBytes !== this.#sentBytes) this.#lastSentAt = at
    this.#sentBytes = outlet.sentBytes
    this.#measureRate(at)
    const facts: LivenessFacts = {
      isExtended: peer.isExtended,
      peerBeatInterval: peer.beat,
      lastReceivedAt: this.#lastReceivedAt,
      isReadPaused: socket.isPaused(),
      lastFlushedAt: this.#lastFlushedAt,
      isSending: !outlet.isIdle,
      lastSentAt: this.#lastSentAt,
      isBusy: this.#link.pending.size + this.#link.hosted.size > 0,
      partialSince: this.#partialSince,
      partialBytes: counts.received - this.#partialFromBytes,
    }
    const { isBeatDue: beat, reason } = checkLiveness(facts, at, settings)
    if (reason !== undefined) void this.#link.disconnect(reason)
    // A peer that reads nothing is not to find a pile of beats.
    else if (beat && outlet.isIdle) outlet.sendPacket('beat', '')
  }

  /** What is now, on its own clock. */
  #advanceClock(): number {
    const at = now()
    this.#clock += Math.min(at - this.#checkedAt, 2 * this.#interval)
    this.#checkedAt = at
    return this.#clock
  }

  #measureRate(at: number): void {
    const { demultiplexer: arrivals, counts, settings } = this.#link
    if (!arrivals.isMidMessage) this.#partialSince = undefined
    else {
      const isOver = this.#partialSince !== undefined && at - this.#partialSince >= RATE_WINDOW_MS
      const isFast =
        counts.received - this.#partialFromBytes >= (settings.minRate * RATE_WINDOW_MS) / 1_000
      if (this.#partialSince !== undefined && !(isOver && isFast)) return
      this.#partialSince = at
      this.#partialFromBytes = counts.received
    }
  }
}
