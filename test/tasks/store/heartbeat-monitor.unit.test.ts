/** Leases, judged by the clock of who looks, with a false clock. */
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { HeartbeatMonitor, type HeartbeatRow } from '../../../src/tasks/store/heartbeat-monitor.ts'
import { type FalseClock, useFalseClock } from '../../clock.ts'

const LEASE = 1_000
const LOOKS = 250
const HOUR = 3_600_000

let clock: FalseClock
let silences: HeartbeatMonitor

beforeEach(() => {
  clock = useFalseClock()
  silences = new HeartbeatMonitor()
})

/** Looks each quarter of a lease for so many ms; answers who was ever found silent. */
async function watched(ms: number, beats: () => HeartbeatRow[]): Promise<string[]> {
  const found = new Set<string>()
  for (let passed = 0; passed < ms; passed += LOOKS) {
    for (const { id } of silences.findSilent(beats(), LEASE)) found.add(id)
    await clock.pass(LOOKS)
  }
  return [...found]
}

describe('a server that beats', () => {
  it.each([
    ['an hour ahead', HOUR],
    ['an hour behind', -HOUR],
    ['at 1970', -1.8e12],
  ])('lives, its clock being %s', async (_, apart) => {
    const beats = () => [{ id: 'a', heartbeat_at: Date.now() + apart }]
    expect(await watched(10 * LEASE, beats)).toEqual([])
  })

  it('lives, whichever way its clock or that of the observer is set', async () => {
    let at = Date.now()
    const beats = () => {
      at += [1, HOUR, -HOUR][Math.floor(performance.now() / LOOKS) % 3] as number
      vi.setSystemTime(at - 5 * HOUR)
      return [{ id: 'a', heartbeat_at: at }]
    }
    expect(await watched(10 * LEASE, beats)).toEqual([])
  })

  it('lives after a standstill of the observer', async () => {
    const silent = [{ id: 'a', heartbeat_at: 1 }]
    expect(silences.findSilent(silent, LEASE)).toEqual([])
    await clock.pass(HOUR)
    // The machine went on just now: the server has had no time to beat.
    expect(silences.findSilent(silent, LEASE)).toEqual([])
    expect(silences.findSilent([{ id: 'a', heartbeat_at: 2 }], LEASE)).toEqual([])
  })
})

describe('a server that does not beat', () => {
  it('is found when it was looked at for a lease, not sooner', async () => {
    const silent = () => [{ id: 'a', heartbeat_at: 1 }]
    expect(await watched(LEASE, silent)).toEqual([])
    expect(await watched(LOOKS, silent)).toEqual(['a'])
  })

  it('is found beside others that do, and one that comes later has its own lease', async () => {
    const beats = () => [
      { id: 'a', heartbeat_at: 1 },
      { id: 'b', heartbeat_at: performance.now() },
    ]
    expect(await watched(2 * LEASE, beats)).toEqual(['a'])
    expect(silences.findSilent([{ id: 'c', heartbeat_at: 1 }], LEASE)).toEqual([])
  })
})
