/** When a link is to be ended, or a beat is due: pure. */
import { duplexPair } from 'node:stream'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { ConversationNumbers } from '../../src/wire/conversation-numbers.ts'
import { takeSocket } from '../../src/wire/index.ts'
import { checkLiveness, type LivenessFacts } from '../../src/wire/keepalive.ts'
import { parseLinkOptions } from '../../src/wire/options.ts'
import { catchThrown, runEventLoop } from '../help.ts'

const settings = parseLinkOptions({ idleTimeout: 100_000 })
const calm: LivenessFacts = {
  isExtended: true,
  peerBeatInterval: 15_000,
  lastReceivedAt: 0,
  isReadPaused: false,
  lastFlushedAt: 0,
  isSending: false,
  lastSentAt: 0,
  isBusy: true,
  partialSince: undefined,
  partialBytes: 0,
}

describe('checkLiveness', () => {
  it.each<[string, Partial<LivenessFacts>, number, RegExp | undefined]>([
    ['silence below the limit', {}, 44_999, undefined],
    ['silence above it', {}, 45_000, /no sign of life/],
    ['silence of a peer that does not beat', { peerBeatInterval: 0 }, 10_000_000, undefined],
    ['silence of one that beats seldom', { peerBeatInterval: 60_000 }, 100_000, undefined],
    ['silence while it is us who do not read', { isReadPaused: true }, 10_000_000, undefined],
    [
      'a peer that does not read',
      { isSending: true, lastReceivedAt: 60_000 },
      60_000,
      /read nothing/,
    ],
    ['idleness', { isBusy: false, peerBeatInterval: 0 }, 100_000, /idle/],
    [
      'a trickle',
      { partialSince: 0, partialBytes: 10, lastReceivedAt: 10_000 },
      10_000,
      /10 bytes in 10000 ms/,
    ],
    ['a flow', { partialSince: 0, partialBytes: 1_000, lastReceivedAt: 10_000 }, 10_000, undefined],
  ])('%s', (_, facts, at, reason) => {
    const verdict = checkLiveness({ ...calm, ...facts }, at, settings)
    if (reason) expect(verdict.reason).toMatch(reason)
    else expect(verdict.reason).toBeUndefined()
  })

  it('beats to peers that know beats, and to no other', () => {
    expect(checkLiveness(calm, 15_000, settings).isBeatDue).toBe(true)
    expect(checkLiveness({ ...calm, isExtended: false }, 15_000, settings).isBeatDue).toBe(false)
    expect(checkLiveness({ ...calm, lastSentAt: 14_000 }, 15_000, settings).isBeatDue).toBe(false)
  })
})

it('numbers wrap, and skip those under way', () => {
  const numbers = new ConversationNumbers(9_999_998)
  const taken = new Set(['101'])
  expect([1, 2, 3].map(() => numbers.takeNext(taken))).toEqual(['9999998', '9999999', '102'])
})

it.each([{ nonsense: 1 }, { key: 'short' }, { packetSize: 5 }, { ident: '' }, { auth: 'maybe' }])(
  'refuses %o',
  (options) => {
    expect(catchThrown(() => parseLinkOptions(options as object)).code).toBe(
      'MANYHOST_INVALID_OPTION',
    )
  },
)

describe('a process that stood still', () => {
  afterEach(() => {
    vi.useRealTimers()
    vi.restoreAllMocks()
  })

  it('does not take its peer for dead or idle: only time that it saw pass counts', async () => {
    let at = 0
    vi.spyOn(performance, 'now').mockImplementation(() => at)
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const look = (elapsed: number): void => {
      at += elapsed
      vi.advanceTimersByTime(1_000)
    }
    const [near, far] = duplexPair()
    const [{ po }] = await Promise.all([
      takeSocket(near, {}, { idleTimeout: 5_000 }),
      takeSocket(far, {}, { role: 'serve', beat: 1_000 }),
    ])
    look(1_000)
    await runEventLoop()
    look(3_600_000)
    expect(po.isConnected).toBe(true)
    await runEventLoop()
    for (let i = 0; i < 10 && po.isConnected; i++) look(1_000)
    expect(await po.waitDisconnected()).toMatch(/idle for/)
    expect(at).toBeLessThan(3_620_000)
  })
})
