/** After many requests, abortions and deaths nothing has grown, and after the end nothing is left. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { faults, inProcess } from '../../providers/testing/index.ts'
import { sleep } from '../../src/core/time.ts'
import { Session } from '../../src/index.ts'
import { findInstancePids, runEventLoop, service, waitForReady, waitUntil } from '../help.ts'
import { seededRandom } from '../random.ts'

const url = 'http://calc'

/** Timers and sockets that keep this process alive, by kind. */
function resources(): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1
  return counts
}

let before: Record<string, number>
beforeEach(async () => {
  await runEventLoop()
  before = resources()
})
afterEach(async () => {
  // Whatever a test left to end by itself has done so by now, or never will.
  await waitUntil(() => {
    const after = resources()
    return Object.keys(after).every((kind) => (after[kind] as number) <= (before[kind] ?? 0))
  }, 'no timer and no socket is left')
})

describe('nothing is left behind', () => {
  test('by requests that are answered, given up and sent again', async () => {
    const random = seededRandom(7)
    const inner = inProcess((req, res) => void req.resume().on('end', () => res.end(req.url)))
    const provider = faults(inner, {
      seed: 7,
      delay: { ms: [0, 3], percentage: 30 },
      abort: { percentage: 3, after: 'body' },
      kill: { percentage: 0.3 },
    })
    const session = new Session({ provider, random, tickInterval: 20 })
    const cluster = session.startup({ url, initSize: 4, concurrency: 4, queueTimeout: 20_000 })
    const client = session.client()
    let settled = 0
    const worker = async (): Promise<void> => {
      for (let i = 0; i < 100; i++) {
        const controller = new AbortController()
        const answer = client
          .post(`${url}/${i}`, {
            body: 'x'.repeat(100),
            timeout: 30_000,
            signal: controller.signal,
          })
          .then((res) => res.text())
        if (random() < 0.2) void sleep(random() * 5).then(() => controller.abort())
        await answer.catch(() => undefined)
        settled++
      }
    }
    await Promise.all(Array.from({ length: 50 }, worker))
    expect(settled).toBe(5_000)
    const { arrivals, completions, failures, resends } = cluster.stats()
    expect([arrivals, completions + failures]).toEqual([5_000, 5_000])
    expect(resends).toBeGreaterThan(0)
    await waitUntil(() => cluster.inFlight === 0)
    expect([cluster.requestQueue.size, cluster.requestQueue.oldestAge]).toEqual([0, 0])
    await waitUntil(() => inner.instances.every(({ inFlight }) => inFlight === 0))
    await session.close()
    expect([cluster.instances, inner.instances]).toEqual([[], []])
  })

  test('by ten thousand that waited and were given up', async () => {
    const session = new Session({ provider: inProcess((_req, res) => void res.end()) })
    const cluster = session.startup({ url, initSize: 0, timeout: 60_000, queueTimeout: 60_000 })
    const client = session.client()
    const controller = new AbortController()
    const all = Array.from({ length: 10_000 }, (_, i) =>
      client
        .get(url, { priority: i % 5, signal: controller.signal })
        .catch((error: { code: string }) => error.code),
    )
    expect(cluster.requestQueue.size).toBe(10_000)
    controller.abort()
    expect(new Set(await Promise.all(all))).toEqual(new Set(['MANYHOST_ABORTED']))
    expect(cluster.requestQueue.isEmpty).toBe(true)
    await session.close()
  })

  test('by instances that were killed, resized and never came up', async () => {
    const session = new Session()
    session.startup({ url, command: service, initSize: 2 })
    session.startup({ url: 'http://never', command: ['no-such-command'], initSize: 2 })
    session.startup({ url: 'http://deaf', command: [...service, 'deaf'], startTimeout: 100 })
    const ids = new Set<string>()
    session.on('instance', ({ instance }) => ids.add(instance))
    for (let round = 0; round < 3; round++) {
      await waitForReady(session, url, 2)
      const { instances } = session.cluster(url)
      for (const pid of findInstancePids(instances[0]?.id ?? '')) process.kill(pid, 'SIGKILL')
      session.setSize(url, 3)
      await waitForReady(session, url, 3)
      session.setSize(url, 2)
    }
    await session.close()
    expect(session.clusters.flatMap(({ instances }) => instances)).toEqual([])
    expect([...ids].flatMap(findInstancePids)).toEqual([])
  })

  test('by sessions that come and go', async () => {
    for (let round = 0; round < 200; round++) {
      const session = new Session({ provider: inProcess((_req, res) => void res.end('ok')) })
      session.startup({ url })
      expect(await (await session.client().get(url)).text()).toBe('ok')
      await session.close({ force: round % 2 === 0 })
    }
  })
})
