/** Keeps a link alive by beats, and ends it when its peer is dead, idle, stalled or slow. */
import type { Duplex } from 'node:stream'
import { every, now, type Timer } from '../core/time.ts'
import type { LinkCounts, WirePeer } from './link-types.ts'
import type { WireSettings } from './options.ts'
import type { PacketSender } from './sender.ts'

const CHECK_INTERVAL_MS = 1_000
/** The minimum rate is measured over this time. */
const RATE_WINDOW_MS = 10_000

/** The state of a link at one check. Times are milliseconds of one clock, as exact as checks are frequent. */
export interface LivenessFacts {
  readonly isExtended: boolean
  /** Milliseconds between the peer's beats; 0 if it sends none. */
  readonly peerBeatInterval: number
  /** When bytes were last received, or reading was last resumed. */
  readonly lastReceivedAt: number
  /** Whether this end has paused reading. */
  readonly isReadPaused: boolean
  /** When the system last took bytes, and whether bytes wait to be sent. */
  readonly lastFlushedAt: number
  readonly isSending: boolean
  readonly lastSentAt: number
  /** Whether conversations are open. */
  readonly isBusy: boolean
  /** Since when the peer is in the middle of a packet or blob, and how many bytes have arrived since. */
  readonly partialSince: number | undefined
  readonly partialBytes: number
}

export type LivenessVerdict = { readonly isBeatDue: boolean; readonly reason?: string }

/** Decides whether the link must end, with the reason, and whether a beat is due. Pure. */
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
  const partialMs = facts.partialSince === undefined ? 0 : at - facts.partialSince
  if (
    minRate > 0 &&
    !facts.isReadPaused &&
    partialMs >= RATE_WINDOW_MS &&
    facts.partialBytes < (minRate * partialMs) / 1_000
  ) {
    return endVerdict(
      `the peer sent ${facts.partialBytes} bytes in ${Math.round(partialMs)} ms, in the middle of a packet or blob`,
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
 * Checks a link at an interval. Its clock advances by at most two intervals at each check: if this process itself was
 * stopped or busy for long, the peer's bytes of that time still wait to be read, and the peer must not count as silent.
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
    const wanted = beat > 0 ? Math.min(beat, deadAfter) / 2 : CHECK_INTERVAL_MS
    this.#interval = Math.max(10, Math.min(CHECK_INTERVAL_MS, wanted))
    this.#checkedAt = now()
    this.#timer ??= every(this.#interval, () => this.#check())
  }

  stop(): void {
    this.#timer?.clear()
    this.#timer = undefined
  }

  #check(): void {
    const { sender, counts, settings, peer, socket } = this.#link
    const at = this.#advanceClock()
    // While this end has paused reading, the peer does not count as silent.
    if (counts.received !== this.#receivedBytes || socket.isPaused()) this.#lastReceivedAt = at
    this.#receivedBytes = counts.received
    if (sender.flushedBytes !== this.#flushedBytes || sender.isIdle) this.#lastFlushedAt = at
    this.#flushedBytes = sender.flushedBytes
    if (sender.sentBytes !== this.#sentBytes) this.#lastSentAt = at
    this.#sentBytes = sender.sentBytes
    this.#measureRate(at)
    const facts: LivenessFacts = {
      isExtended: peer.isExtended,
      peerBeatInterval: peer.beat,
      lastReceivedAt: this.#lastReceivedAt,
      isReadPaused: socket.isPaused(),
      lastFlushedAt: this.#lastFlushedAt,
      isSending: !sender.isIdle,
      lastSentAt: this.#lastSentAt,
      isBusy: this.#link.pending.size + this.#link.hosted.size > 0,
      partialSince: this.#partialSince,
      partialBytes: counts.received - this.#partialFromBytes,
    }
    const { isBeatDue, reason } = checkLiveness(facts, at, settings)
    if (reason !== undefined) void this.#link.disconnect(reason)
    // If bytes wait already, no beat is added: a peer that reads nothing must not get a pile of them.
    else if (isBeatDue && sender.isIdle) sender.sendPacket('beat', '')
  }

  /** The time on the clock of this class. */
  #advanceClock(): number {
    const at = now()
    this.#clock += Math.min(at - this.#checkedAt, 2 * this.#interval)
    this.#checkedAt = at
    return this.#clock
  }

  #measureRate(at: number): void {
    const { demultiplexer, counts, settings } = this.#link
    if (!demultiplexer.isMidMessage) this.#partialSince = undefined
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
