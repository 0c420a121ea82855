/** A provider that a user wrote: what it does wrong is reported once, and stops neither a service nor the program. */
import { describe, expect, test } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import type { Provider, Running } from '../../src/core/provider.ts'
import { waitUntil } from '../help.ts'
import { all, ask, hanging, nonsense, serving, throwing } from './misbehaviour.ts'

// biome-ignore lint/suspicious/noExplicitAny: wrong functions are what is tested
type Any = (...args: any[]) => any

describe("a provider of the user's", () => {
  const base = () => inProcess((_req, res) => res.end('3'), { style: 'node' })
  const made = (more: Partial<Provider>): Provider => {
    const inner = base()
    return {
      name: 'own',
      capabilities: inner.capabilities,
      start: (...args) => inner.start(...args),
      close: async () => inner.close?.(),
      ...more,
    }
  }
  const changing = (
    change: (running: Running) => Partial<Record<keyof Running, unknown>>,
  ): Provider => {
    const inner = base()
    return made({
      async start(...args) {
        const running = await inner.start(...args)
        const { dispatcher, exited, address } = running
        const own = { dispatcher, exited, address, stop: (grace: number) => running.stop(grace) }
        return { ...own, ...change(running) } as Running
      },
    })
  }
  const served = async (provider: Provider, told: RegExp): Promise<void> => {
    const { session, errors } = serving({ initSize: 1 }, { provider })
    expect(await ask(session)).toEqual(new Set([200]))
    await session.close()
    expect(errors.map(({ code, message }) => [code, message])).toEqual([
      ['MANYHOST_FUNCTION_FAILED', expect.stringMatching(told)],
    ])
  }

  describe('available() is replaced by the limit when it', () => {
    test.each([...all, ['answers undefined', () => undefined]] as [string, Any][])(
      '%s',
      (_name, available) => served(made({ available }), /^available\(\) of provider own /),
    )
  })

  describe('onAvailable(), onAgent() and close() change nothing when they', () => {
    const cases = throwing.flatMap(([name, act]) =>
      (['onAvailable', 'onAgent', 'close'] as const).map((method) => [method, name, act] as const),
    )
    test.each(cases)('%s %s', (method, _name, act) =>
      served(made({ [method]: act }), new RegExp(`^${method}\\(\\) of provider own threw`)),
    )
    test.each(nonsense)('onAvailable %s', async (_name, onAvailable) => {
      const provider = made({ onAvailable: onAvailable as Any })
      const { session, errors } = serving({}, { provider })
      expect(await ask(session)).toEqual(new Set([200]))
      await session.close()
      expect(errors.filter(({ code }) => code !== 'MANYHOST_FUNCTION_FAILED')).toEqual([])
    })
  })

  test.each([
    ['a text', 'five'],
    ['NaN', Number.NaN],
    ['a negative number', -1],
    ['null', null],
  ])('limit is %s: there is none', (_name, limit) =>
    served(made({ limit: limit as number }), /^the limit of provider own answered/),
  )

  test('limit is a getter that throws', () =>
    served(
      Object.defineProperty(made({}), 'limit', {
        get: () => {
          throw new Error('not yet')
        },
      }),
      /^the limit of provider own threw: not yet/,
    ))

  describe('stop() of an instance: the session still ends when it', () => {
    test.each(throwing)('%s', (_name, stop) =>
      served(
        changing(() => ({ stop })),
        /^stop\(\) of an instance of provider own threw/,
      ),
    )
  })

  test.each(throwing.filter(([name]) => name.startsWith('rejects')))(
    'exited %s: the instance is lost, and another one serves',
    async (_name, reject) => {
      let count = 0
      const provider = changing((running) => ({
        exited: count++ === 0 ? reject() : running.exited,
      }))
      const { session } = serving({}, { provider })
      const lost = new Promise<string | undefined>((resolve) => {
        session.on('instance', ({ state, reason }) => state === 'failed' && resolve(reason))
      })
      expect(await lost).toMatch(/^its provider failed to say how it ended/)
      expect(await ask(session)).toEqual(new Set([200]))
    },
  )

  test.each(throwing.filter(([name]) => name.startsWith('rejects')))(
    'leaving %s',
    (_name, reject) =>
      served(
        changing(() => ({ leaving: reject() })),
        /^an instance of provider own threw/,
      ),
  )

  test.each(throwing.filter(([name]) => name.startsWith('throws')))(
    'leaving is a getter that %s',
    (_name, get) => {
      const inner = base()
      return served(
        made({
          start: async (...args) =>
            Object.defineProperty(await inner.start(...args), 'leaving', { get }),
        }),
        /^an instance of provider own threw/,
      )
    },
  )

  test.each(['slots', 'address', 'dispatcher'])(
    'a promise as %s, which is rejected, does not end the process',
    async (part) => {
      let count = 0
      const reject = throwing.find(([name]) => name.startsWith('rejects'))?.[1]
      const provider = changing(() => (count++ === 0 ? { [part]: reject?.() } : {}))
      const { session } = serving({}, { provider })
      expect(await ask(session)).toEqual(new Set([200]))
    },
  )

  test.each([0, -1, 1.5, Number.NaN, '4', null])('slots are %s: those of the service', (slots) =>
    served(
      changing(() => ({ slots })),
      /slots must be a whole number from 1 up/,
    ),
  )

  const nothing = (): boolean => true
  test.each([
    ['undefined', undefined],
    ['a text', 'running'],
    ['an object whose dispatcher is not', { exited: new Promise(() => {}), stop: () => {} }],
    ['an object without exited', { dispatcher: { dispatch: nothing }, stop: () => {} }],
    [
      'an object without stop',
      { dispatcher: { dispatch: nothing }, exited: new Promise(() => {}) },
    ],
  ])('start answers %s: the start has failed, and the next one serves', async (_name, answer) => {
    const inner = base()
    let count = 0
    const start: Provider['start'] = async (...args) =>
      count++ === 0 ? (answer as unknown as Running) : inner.start(...args)
    const { session, errors } = serving({}, { provider: made({ start }) })
    expect(await ask(session)).toEqual(new Set([200]))
    expect(errors).toMatchObject([
      { code: 'MANYHOST_START_FAILED', message: expect.stringContaining('start must resolve with {') },
    ])
  })

  test.each(throwing)('start %s: it is tried again', async (_name, act) => {
    const inner = base()
    let count = 0
    const start: Provider['start'] = (...args) =>
      count++ === 0 ? (act() as Promise<Running>) : inner.start(...args)
    const { session, errors } = serving({}, { provider: made({ start }) })
    expect(await ask(session)).toEqual(new Set([200]))
    expect(errors).toMatchObject([{ code: 'MANYHOST_START_FAILED' }])
  })

  test.each(hanging)('accepts %s: the start ends at its time', async (_name, accepts) => {
    let count = 0
    const provider = changing(() => (count++ === 0 ? { accepts } : {}))
    const { session, errors } = serving({ startTimeout: 30 }, { provider })
    await waitUntil(() => errors.length > 0)
    expect(errors).toMatchObject([{ code: 'MANYHOST_START_TIMEOUT' }])
    await waitUntil(() => session.cluster('http://calc').instances[0]?.state === 'ready')
    expect(await ask(session)).toEqual(new Set([200]))
  })
})
