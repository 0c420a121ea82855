/** Functions that a user gives to a session: whatever they do, they are reported once, and a default serves. */
import { describe, expect, test } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import type { SessionEvents } from '../../src/core/events.ts'
import type { Provider } from '../../src/core/provider.ts'
import { type Cluster, Session } from '../../src/index.ts'
import type { SizeSpec } from '../../src/sizing/size.ts'
import { waitUntil } from '../help.ts'
import { all, ask, nonsense, quiet, serving, throwing } from './misbehaviour.ts'

// biome-ignore lint/suspicious/noExplicitAny: wrong functions are what is tested
type Any = (...args: any[]) => any

const FAILED = { code: 'MANYHOST_FUNCTION_FAILED', retryable: false }

describe('balance: requests are served by least-in-flight, and that is reported once, when it', () => {
  test.each([
    ...all,
    ['answers 1.5', () => 1.5],
    ['answers the length of the array', (targets: unknown[]) => targets.length],
    ['answers an index as text', () => '0'],
    ['answers undefined', () => undefined],
    ['answers -1, though an instance is free', () => -1],
    ['answers Infinity', () => Number.POSITIVE_INFINITY],
    ['sorts the candidates', (targets: unknown[]) => targets.sort() && 0],
  ] as [string, Any][])('%s', async (_name, balance) => {
    const { session, errors } = serving({ balance, initSize: 2, concurrency: 2 })
    expect(await ask(session)).toEqual(new Set([200]))
    expect(errors).toEqual([
      expect.objectContaining({
        ...FAILED,
        service: 'http://calc',
        message: expect.stringMatching(/^the balance of http:\/\/calc .*least-in-flight picks/s),
      }),
    ])
    expect(session.cluster('http://calc').inFlight).toBe(0)
  })
})

describe('fairness: requests are served, and that is reported once, when it', () => {
  test.each(all.filter(([name]) => !/-7/.test(name)) as [string, Any][])(
    '%s',
    async (_name, fairness) => {
      const { session, errors } = serving({ fairness })
      expect(await ask(session)).toEqual(new Set([200]))
      expect(errors).toMatchObject([
        { ...FAILED, message: expect.stringMatching(/^the fairness of http:\/\/calc /) },
      ])
    },
  )

  test.each([
    ['undefined, for a request without a key', () => undefined],
    ['a number', () => 7],
  ] as [string, Any][])('not when it answers %s', async (_name, fairness) => {
    const { session, errors } = serving({ fairness })
    expect(await ask(session)).toEqual(new Set([200]))
    expect(errors).toEqual([])
  })
})

describe('random: requests are served, and that is reported once, when it', () => {
  test.each([...all, ['answers 1.5', () => 1.5], ['answers undefined', () => undefined]] as [
    string,
    Any,
  ][])('%s', async (_name, random) => {
    const { session, errors } = serving({ balance: 'peak-ewma', initSize: 3 }, { random })
    expect(await ask(session)).toEqual(new Set([200]))
    expect(errors).toMatchObject([
      { ...FAILED, message: expect.stringMatching(/^the random of the session /) },
    ])
  })
})

describe('a size: the last good one stays, and that is reported once, when', () => {
  const kinds: Record<string, (how: Any) => SizeSpec<Cluster>> = {
    'the function': (how: Any) => how,
    valueOf: (how: Any) => ({ valueOf: how }),
    'Symbol.toPrimitive': (how: Any) => ({ [Symbol.toPrimitive]: how }),
    'valueOf of the class': (how: Any) =>
      class {
        valueOf = how
      },
  }
  // A number below 0 is 0, a promise is awaited, and an object is read as a number.
  const wrong = [...throwing, ...nonsense].filter(([name]) => !/-7|promise of/.test(name))
  const cases = Object.entries(kinds).flatMap(([kind, make]) =>
    wrong.map(([name, how]) => [`${kind} ${name}`, make(how as Any)] as const),
  )
  test.each(cases)('%s', async (_name, size) => {
    const { session, errors } = serving({ initSize: 2 })
    session.setSize('http://calc', size)
    expect(await ask(session)).toEqual(new Set([200]))
    await waitUntil(() => errors.length > 0)
    expect(session.cluster('http://calc').size).toBe(2)
    expect(errors).toMatchObject([{ code: 'MANYHOST_SIZE_FAILED', service: 'http://calc' }])
  })
})

test('a size that fails for another reason each time is reported a few times, not at each read', async () => {
  const { session, errors } = serving({}, { tickInterval: 1 })
  let reads = 0
  session.setSize('http://calc', () => {
    reads++
    throw new Error(reads % 2 === 0 ? `failure ${reads}` : 'x'.repeat(reads))
  })
  await waitUntil(() => reads > 40)
  expect(errors.length).toBeLessThanOrEqual(5)
  expect(await ask(session)).toEqual(new Set([200]))
})

describe('a listener that fails is reported once, and changes nothing', () => {
  const names: readonly (keyof SessionEvents)[] = ['instance', 'cluster', 'request']
  test.each(names.flatMap((name) => throwing.map(([how, act]) => [name, how, act] as const)))(
    'of %s: %s',
    async (name, _how, act) => {
      const { session, errors } = serving({ initSize: 0 })
      const heard: unknown[] = []
      session.on(name, act as Any)
      session.on(name, (event) => heard.push(event))
      session.setSize('http://calc', 1)
      expect(await ask(session)).toEqual(new Set([200]))
      await waitUntil(() => errors.length > 0)
      expect(heard.length).toBeGreaterThan(0)
      expect(errors).toMatchObject([
        {
          ...FAILED,
          message: expect.stringMatching(
            `^a listener of '${name}' of the session, at an event of http://calc, `,
          ),
        },
      ])
    },
  )

  test.each(throwing)('of error itself: %s, as one warning of the process', async (_name, act) => {
    const warnings: Error[] = []
    const note = (warning: Error): void => void warnings.push(warning)
    process.on('warning', note)
    try {
      const { session, errors } = serving()
      session.on('error', act as Any)
      for (const size of [2, 3]) {
        session.setSize('http://calc', () => {
          throw new Error(`no size ${size}`)
        })
      }
      await waitUntil(() => warnings.length > 0)
      expect(await ask(session)).toEqual(new Set([200]))
      expect(warnings.map(({ message }) => message)).toEqual([
        expect.stringMatching(
          /^a listener of 'error' of the session, at an event of http:\/\/calc, /,
        ),
      ])
      expect(errors).toHaveLength(2)
    } finally {
      process.off('warning', note)
    }
  })
})

describe('a function that calls the session: requests are served, when it', () => {
  const acts: Record<string, (session: () => Told['session']) => void> = {
    'sets a size': (session) => session().setSize('http://calc', 2),
    'sets itself as the size again': (session) => session().setSize('http://calc', () => 2),
    'sends a request': (session) =>
      void session()
        .client()
        .get('http://calc/')
        .catch(() => {}),
    'unsubscribes all that it can': (session) => session().off('request', () => undefined),
  }
  type Told = ReturnType<typeof serving>
  test.each(Object.entries(acts))('%s', async (_name, act) => {
    let told: Told | undefined
    let calls = 0
    const once = (): void => {
      if (told && !told.session.isClosed && calls++ < 50) act(() => (told as Told).session)
    }
    told = serving({
      initSize: 2,
      balance: (targets) => {
        once()
        return targets.findIndex(({ open, inFlight, slots: places }) => open && inFlight < places)
      },
      fairness: () => {
        once()
        return 'key'
      },
    })
    const { session, errors } = told
    for (const name of ['instance', 'cluster', 'request', 'error'] as const) session.on(name, once)
    session.setSize('http://calc', () => {
      once()
      return 2
    })
    expect(await ask(session)).toEqual(new Set([200]))
    await waitUntil(() => session.cluster('http://calc').inFlight === 0)
    expect(errors).toEqual([])
  })

  test.each([
    'balance',
    'fairness',
    'size',
    'random',
    'start',
    'available',
    'onOutput',
    'request',
    'instance: pending',
    'instance: starting',
    'instance: ready',
    'cluster',
    'error',
  ])('closes it by force, in %s: all requests end, and nothing is left', async (where) => {
    let session: Session | undefined
    let closed: Promise<void> | undefined
    const close = (here: string): void => {
      if (session && here === where) closed ??= session.close({ force: true })
    }
    const inner = inProcess((_req, res) => res.end('3'), { style: 'node' })
    let starts = 0
    const provider: Provider = {
      name: 'own',
      capabilities: inner.capabilities,
      available: () => {
        close('available')
        return 4
      },
      start(spec, options) {
        close('start')
        if (where === 'error' && starts++ === 0) throw new Error('so that there is an error')
        spec.onOutput('started')
        close('onOutput')
        return inner.start(spec, options)
      },
    }
    const random = (): number => {
      close('random')
      return 0.5
    }
    session = new Session({ provider, tickInterval: 10, random })
    session.on('request', () => close('request'))
    session.on('instance', ({ state }) => close(`instance: ${state}`))
    session.on('cluster', () => close('cluster'))
    session.on('error', () => close('error'))
    const cluster = session.startup({
      url: 'http://calc',
      initSize: 4,
      balance: (targets) => {
        close('balance')
        return targets.findIndex(({ open, inFlight, slots: places }) => open && inFlight < places)
      },
      fairness: () => {
        close('fairness')
        return 'key'
      },
    })
    const size = (): number => {
      close('size')
      return 4
    }
    if (!session.isClosed) session.setSize('http://calc', size)
    const client = session.client({ timeout: 5_000 })
    const ended = await Promise.allSettled(
      Array.from({ length: 5 }, () => client.get('http://calc/')),
    )
    await (closed ?? session.close({ force: true }))
    await quiet()
    expect(ended).toHaveLength(5)
    const { inFlight, requestQueue, instances } = cluster
    expect([inFlight, requestQueue.size, instances, inner.instances]).toEqual([0, 0, [], []])
  })

  test.each(['balance', 'fairness'] as const)('aborts the request, in %s', async (where) => {
    const giveUp = new AbortController()
    const abort = (): void => giveUp.abort(new Error('given up'))
    const { session } = serving({
      initSize: 1,
      balance: () => {
        if (where === 'balance') abort()
        return 0
      },
      fairness: () => {
        if (where === 'fairness') abort()
        return 'key'
      },
    })
    const { signal } = giveUp
    await expect(session.client().get('http://calc/', { signal })).rejects.toThrow()
    expect(await ask(session)).toEqual(new Set([200]))
    const { inFlight, requestQueue } = session.cluster('http://calc')
    expect([inFlight, requestQueue.size]).toEqual([0, 0])
  })
})

describe('an error listener that sets a size that fails', () => {
  test('is called at the pace of the ticks, not in a circle', async () => {
    const { session, errors } = serving({}, { tickInterval: 20 })
    let calls = 0
    session.on('error', () => {
      if (calls++ > 20 || session.isClosed) return
      session.setSize('http://calc', () => {
        throw new Error(`failure ${calls}`)
      })
    })
    session.setSize('http://calc', () => {
      throw new Error('the first failure')
    })
    expect(errors.length).toBeLessThan(10)
    expect(await ask(session)).toEqual(new Set([200]))
  })
})
