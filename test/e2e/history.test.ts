/**
 * 200 requests in flight while instances are killed, stopped, frozen, thawed and resized and callers give up; then
 * the histories of clients, servers and session are held against each other. MANYHOST_HISTORY_SECONDS says for how
 * long, MANYHOST_HISTORY_SEED which one.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { now, sleep } from '../../src/core/time.ts'
import type { Attempt } from '../../src/dispatch/attempt.ts'
import type { Exchange } from '../../src/dispatch/exchange.ts'
import type { RequestQueue } from '../../src/dispatch/request-queue.ts'
import { type Cluster, type ManyhostError, Session } from '../../src/index.ts'
import { findInstancePids, service, waitForReady } from '../help.ts'
import { seededRandom } from '../random.ts'
import { type Call, checkHistory, type Execution, type Step } from './check-history.ts'

const seconds = Number(process.env.MANYHOST_HISTORY_SECONDS ?? 30)
const seed = Number(process.env.MANYHOST_HISTORY_SEED ?? 1)
const IN_FLIGHT = 200
const url = 'http://history'

/** Writes down what the session says, in order. */
function watch(session: Session, cluster: Cluster) {
  const steps: Step[] = []
  type Message = { exchange: Exchange; attempt: Attempt }
  const channels = {
    'manyhost:request:start': ({ exchange }: Message) => {
      const { id, priority = 0 } = exchange.request
      steps.push({ kind: 'joined', id, priority })
    },
    'manyhost:attempt:start': ({ exchange, attempt }: Message) => {
      steps.push({ kind: 'dispatched', id: exchange.request.id, attempt: attempt.number })
      look()
    },
    'manyhost:request:end': ({ exchange }: Message) => {
      steps.push({ kind: 'settled', id: exchange.request.id, sent: exchange.sent })
      look()
    },
  }
  for (const [name, listen] of Object.entries(channels)) subscribe(name, listen as never)
  session.on('resend', ({ id, attempt }) => steps.push({ kind: 'resent', id, attempt }))
  session.on('instance', () => look())
  let looks = false
  /** When all that this turn brings has come to rest, nobody waits beside a free place. */
  const look = (): void => {
    if (looks) return
    looks = true
    setImmediate(() => {
      looks = false
      let free = 0
      for (const { target } of cluster.instances) free += target?.freeSlots ?? 0
      // Who was set aside is for other instances than those with a place, as a unit test of the queue proves.
      const { size, deferredCount: aside } = cluster.requestQueue as RequestQueue
      steps.push({ kind: 'rest', waiting: size - aside, free })
    })
  }
  const stop = (): void => {
    for (const [name, listen] of Object.entries(channels)) unsubscribe(name, listen as never)
  }
  return { steps, stop }
}

/** Asks one after the other until it is over, and gives some of them up. */
async function ask(session: Session, name: number, isOver: () => boolean): Promise<Call[]> {
  const random = seededRandom(seed * 1_000 + name)
  const client = session.client()
  const calls: Call[] = []
  while (!isOver()) {
    const id = `${name}-${calls.length}`
    const outcomes: Call['outcomes'][number][] = []
    const controller = new AbortController()
    const gaveUp =
      random() < 0.05 ? sleep(random() * 300).then(() => controller.abort()) : undefined
    const body = 'x'.repeat([10, 1_000, 65_536][Math.floor(random() * 3)] as number)
    const expected = `text-${id} done`
    try {
      const res = await client.post(`${url}/job/${Math.floor(random() * 40)}/text-${id}`, {
        headers: { 'x-request-id': id },
        body: random() < 0.5 ? body : new Blob([body]).stream(),
        priority: random() < 0.2 ? 5 : 0,
        signal: controller.signal,
      })
      outcomes.push({ answer: await res.text(), status: res.status })
    } catch (error) {
      outcomes.push({ error: (error as ManyhostError).code ?? String(error) })
    }
    await gaveUp
    calls.push({ id, expected, aborted: controller.signal.aborted, outcomes })
  }
  return calls
}

/** Does harm, now to this instance, now to that one. */
async function harm(session: Session, isOver: () => boolean): Promise<Record<string, number>> {
  const random = seededRandom(seed)
  const done: Record<string, number> = { SIGKILL: 0, SIGTERM: 0, SIGSTOP: 0, SIGCONT: 0, resize: 0 }
  const thaws: Promise<void>[] = []
  const signal = (instance: string, name: NodeJS.Signals): void => {
    for (const pid of findInstancePids(instance)) {
      try {
        process.kill(pid, name)
        done[name] = (done[name] as number) + 1
      } catch {
        // It has ended meanwhile.
      }
    }
  }
  while (!isOver()) {
    await sleep(200 + random() * 500)
    const up = session.cluster(url).instances.filter(({ state }) => state === 'ready')
    const victim = up[Math.floor(random() * up.length)]
    const what = random()
    if (what < 0.25) {
      session.setSize(url, 2 + Math.floor(random() * 4))
      done.resize = (done.resize as number) + 1
    } else if (!victim) continue
    else if (what < 0.5) signal(victim.id, 'SIGKILL')
    else if (what < 0.7) signal(victim.id, 'SIGTERM')
    else {
      signal(victim.id, 'SIGSTOP')
      thaws.push(sleep(random() * 1_500).then(() => signal(victim.id, 'SIGCONT')))
    }
  }
  await Promise.all(thaws)
  return done
}

function journals(folder: string): Execution[] {
  return readdirSync(folder).flatMap((instance) =>
    readFileSync(join(folder, instance), 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [id = '', attempt] = line.split(' ')
        return { id, attempt: Number(attempt), instance }
      }),
  )
}

test(`${seconds} s of harm (seed ${seed})`, { timeout: (seconds + 60) * 1_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-history-'))
  const session = new Session()
  const cluster = session.startup({
    url,
    command: service,
    initSize: 4,
    concurrency: 8,
    env: { JOURNAL_FOLDER: folder },
    health: { path: '/health', interval: 300, threshold: 2 },
    drainTimeout: 1_000,
  })
  const { steps, stop } = watch(session, cluster)
  const ids = new Set<string>()
  session.on('instance', ({ instance }) => ids.add(instance))
  await waitForReady(session, url, 4)
  const end = now() + seconds * 1_000
  const isOver = (): boolean => now() > end
  const asking = Array.from({ length: IN_FLIGHT }, (_, name) => ask(session, name, isOver))
  const done = await harm(session, isOver)
  const calls = (await Promise.all(asking)).flat()
  const executedTwice = cluster.stats().executedTwice
  await session.close()
  stop()
  const executions = journals(folder)
  rmSync(folder, { recursive: true })
  const resends = steps.filter(({ kind }) => kind === 'resent').length
  const figures = { requests: calls.length, executions: executions.length, resends, executedTwice }
  console.log(JSON.stringify({ ...figures, instances: ids.size, ...done }))
  expect(checkHistory({ calls, executions, steps, executedTwice }).slice(0, 20)).toEqual([])
  expect(calls.length).toBeGreaterThan(IN_FLIGHT)
  expect([...ids].flatMap(findInstancePids)).toEqual([])
  expect(cluster.instances).toEqual([])
})
