/** When a link is to be ended, or a beat is due: pure. */
import { duplexPair } from 'node:stream'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { takeSocket } from '../../src/wire/index.ts'
import { Numbers } from '../../src/wire/numbers.ts'
import { parseLink } from '../../src/wire/options.ts'
import { backoff } from '../../src/wire/reconnect.ts'
import { type Facts, judge } from '../../src/wire/vigil.ts'
import { thrown, turns } from '../help.ts'

const settings = parseLink({ idleTimeout: 100_000 })
const calm: Facts = {
  isExtended: true,
  peerBeat: 15_000,
  heardAt: 0,
  isHeld: false,
  flushedAt: 0,
  isSending: false,
  sentAt: 0,
  isBusy: true,
  amidSince: undefined,
  amidBytes: 0,
}

describe('judge', () => {
  it.each<[string, Partial<Facts>, number, RegExp | undefined]>([
    ['silence below the limit', {}, 44_999, undefined],
    ['silence above it', {}, 45_000, /no sign of life/],
    ['silence of a peer that does not beat', { peerBeat: 0 }, 10_000_000, undefined],
    ['silence of one that beats seldom', { peerBeat: 60_000 }, 100_000, undefined],
    ['silence while it is us who do not read', { isHeld: true }, 10_000_000, undefined],
    ['a peer that does not read', { isSending: true, heardAt: 60_000 }, 60_000, /read nothing/],
    ['idleness', { isBusy: false, peerBeat: 0 }, 100_000, /idle/],
    ['a trickle', { amidSince: 0, amidBytes: 10, heardAt: 10_000 }, 10_000, /10 bytes in 10000 ms/],
    ['a flow', { amidSince: 0, amidBytes: 1_000, heardAt: 10_000 }, 10_000, undefined],
  ])('%s', (_, facts, at, reason) => {
    const verdict = judge({ ...calm, ...facts }, at, settings)
    if (reason) expect(verdict.reason).toMatch(reason)
    else expect(verdict.reason).toBeUndefined()
  })

  it('beats to peers that know beats, and to no other', () => {
    expect(judge(calm, 15_000, settings).beat).toBe(true)
    expect(judge({ ...calm, isExtended: false }, 15_000, settings).beat).toBe(false)
    expect(judge({ ...calm, sentAt: 14_000 }, 15_000, settings).beat).toBe(false)
  })
})

it('numbers wrap, and skip those under way', () => {
  const numbers = new Numbers(9_999_998)
  const taken = new Set(['101'])
  expect([1, 2, 3].map(() => numbers.next(taken))).toEqual(['9999998', '9999999', '102'])
})

it('waits double, with jitter, up to the longest', () => {
  expect([1, 2, 3, 40].map((n) => backoff(n, 100, 1_000, () => 1))).toEqual([100, 200, 400, 1_000])
  expect(backoff(1, 100, 1_000, () => 0)).toBe(50)
})

it.each([{ nonsense: 1 }, { key: 'short' }, { packetSize: 5 }, { ident: '' }, { auth: 'maybe' }])(
  'refuses %o',
  (options) => {
    expect(thrown(() => parseLink(options as object)).code).toBe('MANYHOST_INVALID_OPTION')
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
    await turns()
    look(3_600_000)
    expect(po.isConnected).toBe(true)
    await turns()
    for (let i = 0; i < 10 && po.isConnected; i++) look(1_000)
    expect(await po.waitDisconnected()).toMatch(/idle for/)
    expect(at).toBeLessThan(3_620_000)
  })
})
