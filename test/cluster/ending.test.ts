/** Draining, and the end of a session: every request settles, and nothing is left behind. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import { Session } from '../../src/index.ts'
import {
  failure,
  gate,
  holding,
  latch,
  NEVER,
  next,
  pidsOf,
  ready,
  record,
  service,
  states,
  turns,
  until,
} from '../help.ts'

let session: Session
beforeEach(() => {
  session = new Session({ tickInterval: NEVER })
})
afterEach(() => session.close({ force: true }))

const url = 'http://calc'

function get(path: string, options = {}) {
  return session.client().get(`${url}/${path}`, options)
}

describe('scaling down', () => {
  test('a running request ends first, and the draining instance gets no other', async () => {
    const { provider, holds, held, seen } = holding()
    session.startup({ url, provider, concurrency: 4 })
    const one = get('one')
    await holds(1)
    session.setSize(url, 0)
    await until(() => states(session, url).draining === 1)
    const two = get('two')
    await turns()
    expect(seen).toEqual(['one'])
    held[0]?.answer()
    await one
    await until(() => session.cluster(url).instances.length === 0)
    session.setSize(url, 1)
    await until(() => held.length === 1)
    held[0]?.answer()
    expect(await (await two).text()).toBe('two')
  })

  test('an answer that is being read counts as running', async () => {
    const end = latch()
    const provider = inProcess(async (_req, res) => {
      res.write('one ')
      await end.promise
      res.end('two')
    })
    session.startup({ url, provider })
    const { body } = await get('')
    const reader = (body as ReadableStream<Uint8Array>).getReader()
    let text = Buffer.from((await reader.read()).value ?? []).toString()
    session.setSize(url, 0)
    await until(() => states(session, url).draining === 1)
    await turns()
    expect(provider.instances).toHaveLength(1)
    end.open()
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      text += Buffer.from(next.value)
    }
    expect(text).toBe('one two')
    await until(() => session.cluster(url).instances.length === 0)
  })

  test('drainTimeout takes the request away, and another instance serves it', async () => {
    const { provider, holds, held, seen } = holding()
    session.startup({ url, provider, initSize: 2, drainTimeout: 20 })
    await ready(session, url, 2)
    const answers = [get('one'), get('two')]
    await holds(2)
    const resent = next(session, 'resend')
    session.setSize(url, 1)
    await resent
    expect((await resent).reason).toBe('ended')
    await until(() => session.cluster(url).instances.length === 1)
    // The one that stays has a place only when its own request has ended.
    await until(() => held.length === 1)
    held[0]?.answer()
    await until(() => seen.length === 3 && held.length === 1)
    held[0]?.answer()
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200])
  })

  test('down and up again in one turn changes nothing', async () => {
    const { provider } = holding()
    session.startup({ url, provider, initSize: 2 })
    await ready(session, url, 2)
    const events = record(session, 'instance')
    session.setSize(url, 0)
    session.setSize(url, 2)
    await turns()
    expect([events, states(session, url)]).toEqual([[], { ready: 2 }])
  })
})

describe('close', () => {
  test('lets what runs and what waits end, takes nothing new, and stops every process', async () => {
    session.startup({ url, command: service, initSize: 2 })
    await ready(session, url, 2)
    const ids = session.cluster(url).instances.map(({ id }) => id)
    const work = gate()
    const answers = [1, 2, 3, 4].map(() => get(`pid?${work.until}`))
    await until(() => session.cluster(url).inFlight === 2)
    const closed = session.close()
    expect((await failure(get('pid'))).code).toBe('MANYHOST_SESSION_CLOSED')
    work.open()
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200, 200, 200])
    await closed
    expect(ids.flatMap(pidsOf)).toEqual([])
    expect(session.cluster(url).instances).toEqual([])
  })

  test('resends go on while it drains', async () => {
    const { provider, holds, held, kill } = holding()
    session.startup({ url, provider })
    await (await get('now')).text()
    const answer = get('one')
    await holds(1)
    const closed = session.close()
    kill()
    await holds(1)
    held[0]?.answer()
    expect((await answer).status).toBe(200)
    await closed
  })

  test('with force: all ends at once, with one error and no resend', async () => {
    const { provider, holds } = holding()
    session.startup({ url, provider, initSize: 2, resend: 'never' })
    await ready(session, url, 2)
    const resends = record(session, 'resend')
    const errors = [1, 2, 3, 4].map((n) => failure(get(String(n))))
    await holds(2)
    await session.close({ force: true })
    for (const error of await Promise.all(errors))
      expect(error.code).toBe('MANYHOST_SESSION_CLOSED')
    expect([resends, provider.instances]).toEqual([[], []])
  })

  test('after timeout: what is left ends with an error', async () => {
    const { provider, holds } = holding()
    session.startup({ url, provider })
    const errors = [failure(get('one')), failure(get('two'))]
    await holds(1)
    await session.close({ timeout: 20 })
    for (const error of await Promise.all(errors))
      expect(error.code).toBe('MANYHOST_SESSION_CLOSED')
  })

  test('is idempotent, and a later force is heeded', async () => {
    const { provider, holds } = holding()
    session.startup({ url, provider })
    const error = failure(get('one'))
    await holds(1)
    const ends: string[] = []
    const closes = [session.close(), session.close()]
    for (const close of closes) void close.then(() => ends.push('closed'))
    await turns()
    expect(ends).toEqual([])
    await session.close({ force: true })
    await Promise.all(closes)
    expect((await error).code).toBe('MANYHOST_SESSION_CLOSED')
    const closed = record(session, 'cluster')
    await session.close()
    expect(closed).toEqual([])
  })

  test('a later force also ends an instance that ignores SIGTERM', async () => {
    const script =
      'process.on("SIGTERM", () => {}); setInterval(() => {}, 1000); await import(process.argv[1])'
    const [node, path] = service as [string, string]
    const command = [node, '--input-type=module', '-e', script, path]
    session.startup({ url, command, stopGrace: NEVER })
    const pid = Number(await (await get('pid')).text())
    const [instance] = session.cluster(url).instances.map(({ id }) => id) as [string]
    expect(pidsOf(instance)).toEqual([pid])
    const closed = session.close()
    await until(() => states(session, url).draining === 1)
    await turns()
    await session.close({ force: true })
    await closed
    expect(pidsOf(instance)).toEqual([])
  })

  test('during starts: they are given up, and their processes gone', async () => {
    session.startup({ url, command: [...service, 'deaf'], initSize: 3 })
    const ids: string[] = []
    session.on('instance', ({ instance, state }) => state === 'starting' && ids.push(instance))
    await until(() => ids.length === 3 && ids.every((id) => pidsOf(id).length > 0))
    const stopped = record(session, 'instance')
    await session.close()
    expect(ids.flatMap(pidsOf)).toEqual([])
    expect(stopped.map(({ state }) => state).sort()).toEqual([
      ...Array(3).fill('draining'),
      ...Array(3).fill('stopped'),
    ])
  })

  test('in the very turn of the startup', async () => {
    const { provider } = holding()
    session.startup({ url, provider })
    await session.close()
    expect(provider.instances).toEqual([])
  })

  test('with size 0 and waiting requests: they are told at once', async () => {
    const { provider } = holding()
    session.startup({ url, provider, initSize: 0 })
    const errors = [failure(get('one')), failure(get('two'))]
    await turns()
    await session.close()
    for (const error of await Promise.all(errors))
      expect(error.code).toBe('MANYHOST_SESSION_CLOSED')
  })

  test('while starts fail: who waits is told at once', async () => {
    session.startup({ url, command: ['no-such-command'] })
    const error = failure(get('one'))
    await next(session, 'error')
    await session.close()
    expect((await error).code).toBe('MANYHOST_SESSION_CLOSED')
  })

  test('waits for a failed instance to be gone, and for no provider that never ends one', async () => {
    const { provider } = holding()
    const gate = latch()
    const slow = { ...provider, start: provider.start.bind(provider) }
    slow.start = async (spec, options) => {
      const running = await provider.start(spec, options)
      const stop = async (grace: number): Promise<void> => {
        await gate.promise
        await running.stop(grace)
      }
      const { dispatcher, exited } = running
      return { dispatcher, exited, stop }
    }
    session.startup({ url, provider: slow, onStop: 'ignore', initSize: 2 })
    await ready(session, url, 2)
    provider.instances[0]?.kill()
    await until(() => session.cluster(url).instances.length === 1)
    let isClosed = false
    const closed = session.close().then(() => {
      isClosed = true
    })
    await turns()
    expect(isClosed).toBe(false)
    gate.open()
    await closed
  })

  test('a startup, a size or a request after it is refused', async () => {
    const { provider } = holding()
    session.startup({ url, provider })
    await session.close()
    for (const call of [
      () => session.startup({ url: 'http://other', provider }),
      () => session.setSize(url, 1),
    ]) {
      expect(call).toThrow(/closed/)
    }
    expect((await failure(get('one'))).code).toBe('MANYHOST_SESSION_CLOSED')
  })

  test('ends also what takes over, and what was taken away and has not ended yet', async () => {
    const { provider, holds } = holding()
    const other = holding({ startDelay: NEVER })
    session.startup({ url, provider })
    session.startup({ url: 'http://other', provider })
    const error = failure(get('one'))
    await holds(1)
    const removed = session.remove(url)
    const updated = failure(session.update({ url: 'http://other', provider: other.provider }))
    await turns()
    await session.close({ force: true })
    await removed
    expect((await error).code).toBe('MANYHOST_SESSION_CLOSED')
    expect((await updated).code).toBe('MANYHOST_SESSION_CLOSED')
    expect([provider.instances, other.provider.instances]).toEqual([[], []])
  })
})
