/** The parts that only Golem has, with a fake of the daemon: agreements, bills, nodes that fail, a daemon that is away. */
import { Registry } from 'prom-client'
import { describe, expect, test } from 'vitest'
import type { Provider, Running, StartSpec } from '../../../src/core/provider.ts'
import { sleep } from '../../../src/core/time.ts'
import { Session } from '../../../src/index.ts'
import { findInstancePids, nextEvent, rejectionOf, waitForReady } from '../../help.ts'
import { get, specOf, waitUntil } from '../process-help.ts'
import { command, faked, KEY, nodes } from './help.ts'

const SLOW = { timeout: 60_000 }

const unending = (): AbortSignal => new AbortController().signal

async function serving(provider: Provider, part: Partial<StartSpec> = {}): Promise<Running> {
  const running = await provider.start(specOf({ command, ...part }), { signal: unending() })
  await waitUntil(() => running.accepts?.(unending()).then(() => true) ?? true, 20_000)
  return running
}

describe('agreements', () => {
  const { yagna, provider } = faked(nodes(3))
  const approved = (): string[] =>
    [...yagna.market.agreements.values()]
      .filter(({ state }) => state === 'Approved')
      .map(({ agreementId }) => agreementId)

  test('its node takes the machine away: lost, and the node is avoided', SLOW, async () => {
    const registry = new Registry()
    const made = provider({ registry })
    const running = await serving(made)
    const [agreement = ''] = approved()
    yagna.terminate(agreement)
    const exit = await running.exited
    expect(exit.reason).toBe('lost')
    expect(exit.detail).toMatch(
      /terminated by its node: no power|agreement is terminated|was ended/,
    )
    const again = await serving(made)
    expect(running.address).toContain('node-0')
    expect(again.address).toContain('node-1')
    const text = await registry.metrics()
    expect(text).toContain('manyhost_golem_avoided 1')
    expect(text).toMatch(/agreements_total\{service="http:\/\/calc",outcome="lost"\} 1/)
    await made.close?.()
  })

  test(
    'nothing is left after close: no agreement, network, demand nor allocation',
    SLOW,
    async () => {
      const made = provider()
      const all = await Promise.all([serving(made), serving(made), serving(made)])
      expect(new Set(all.map(({ address }) => address)).size).toBe(3)
      expect(yagna.allocations.size).toBe(1)
      await made.close?.()
      expect(approved()).toEqual([])
      expect([yagna.allocations.size, yagna.networks.size, yagna.market.demands.size]).toEqual([
        0, 0, 0,
      ])
      for (const running of all) expect(await running.exited).toMatchObject({ reason: 'stopped' })
      for (const machine of yagna.machines.values()) expect(machine.state).toBe('Terminated')
      expect([...yagna.market.bills.values()].map(({ status }) => status)).not.toContain('RECEIVED')
      const error = await rejectionOf(made.start(specOf({ command }), { signal: unending() }))
      expect(error.code).toBe('MANYHOST_SESSION_CLOSED')
    },
  )

  test('a startup function reads the name of its instance in ctx.env', SLOW, async () => {
    const made = provider()
    let name: string | undefined
    const one = specOf({
      startup: async ({ env, spawn }) => {
        name = env.MANYHOST_INSTANCE
        await spawn(command[0] as string, ...command.slice(1))
      },
    })
    await made.start(one, { signal: unending() })
    expect(name).toBe(one.id)
    await made.close?.()
  })

  test('a start that is given up leaves no agreement', SLOW, async () => {
    const made = provider()
    for (const ms of [0, 300, 1_100, 1_300, 2_000]) {
      const giveUp = new AbortController()
      const starting = made.start(specOf({ command }), { signal: giveUp.signal })
      void sleep(ms).then(() => giveUp.abort(new Error('enough')))
      await starting.then((running) => running.stop(0)).catch(() => {})
    }
    await waitUntil(() => approved().length === 0)
    await made.close?.()
  })

  test('an instance is leaving before the end of its rent', SLOW, async () => {
    const rentHours = 30 / 3_600
    const made = provider({ rentHours, drainBefore: 29_000 })
    const running = await serving(made)
    expect(await running.leaving).toMatch(/rented is nearly over/)
    await made.close?.()
  })

  test('no more than maxInstances, over all services', SLOW, async () => {
    const made = provider({ maxInstances: 1 })
    await serving(made)
    expect([made.available?.('http://calc'), made.available?.('http://other')]).toEqual([1, 0])
    const error = await rejectionOf(made.start(specOf({ command }), { signal: unending() }))
    expect(error.message).toContain('1 run already, and maxInstances is 1')
    await made.close?.()
  })

  test('resources and image are in the demand', SLOW, async () => {
    const made = provider({ subnet: 'my-net' })
    const resources = { cpus: 1.5, memory: 2_147_483_648 }
    const running = await serving(made, { resources })
    const [demand] = yagna.market.demands.values()
    expect(demand?.constraints).toContain('(golem.inf.cpu.threads>=2)')
    expect(demand?.constraints).toContain('(golem.inf.mem.gib>=2)')
    expect(demand?.constraints).toContain('(golem.runtime.capabilities=vpn)')
    expect(demand?.constraints).toContain('(golem.node.debug.subnet=my-net)')
    await running.stop(0)
    await made.close?.()
  })
})

describe('one node', () => {
  const { provider } = faked(nodes(1))

  test('a machine that was given back is rented again', SLOW, async () => {
    // There is no other: it is waited for until it offers itself again.
    const made = provider()
    for (let round = 0; round < 2; round++) {
      const running = await serving(made)
      expect(running.address).toContain('node-0')
      await running.stop(0)
    }
    await made.close?.()
  })
})

describe('nodes that fail', () => {
  const [first, second, third, ...rest] = nodes(5)
  const bad = [
    { ...first, refusesAgreements: true },
    { ...second, failsToDeploy: true },
    { ...third, prices: [1, 1, 1] as const },
    ...rest,
  ] as ReturnType<typeof nodes>
  const { provider } = faked(bad)

  test('the next node is taken, and failed nodes are not asked again', SLOW, async () => {
    const registry = new Registry()
    const made = provider({ registry })
    const all = [await serving(made), await serving(made)]
    // The third one is too dear.
    expect(all.map(({ address }) => address?.split(' at ')[1])).toEqual(['node-3', 'node-4'])
    const text = await registry.metrics()
    expect(text).toContain('manyhost_golem_avoided 2')
    expect(text).toMatch(/outcome="refused"\} 1/)
    expect(text).toMatch(/outcome="failed"\} 1/)
    expect(text).toMatch(/outcome="signed"\} 3/)
    await made.close?.()
  })
})

describe('bills', () => {
  const [greedy, ...others] = nodes(2)
  const { yagna, provider } = faked([{ ...greedy, asksFor: 5 }, ...others] as ReturnType<
    typeof nodes
  >)

  test(
    'what is due is granted and counted; what is beyond the price is refused',
    SLOW,
    async () => {
      const registry = new Registry()
      const made = provider({ registry })
      const running = [await serving(made), await serving(made)]
      for (const { agreementId } of yagna.market.agreements.values())
        yagna.market.debit(agreementId)
      await waitUntil(async () => {
        const text = await registry.metrics()
        return (
          /cost_glm_total\{service="http:\/\/calc"\} 0\.00\d/.test(text) &&
          /refused_glm_total\{[^}]*\} 5\n/.test(text)
        )
      })
      await Promise.all(running.map((one) => one.stop(0)))
      await made.close?.()
      const statuses = [...yagna.market.bills.values()].map(({ status, amount }) => [
        amount,
        status,
      ])
      // golem-js has no way to refuse a debit note, and leaves it.
      expect(
        statuses
          .filter(([amount]) => amount === '5.000000')
          .map(([, how]) => how)
          .sort(),
      ).toEqual(['RECEIVED', 'REJECTED'])
      expect(statuses.filter(([amount]) => amount !== '5.000000').map(([, how]) => how)).toEqual([
        'ACCEPTED',
        'ACCEPTED',
      ])
    },
  )
})

describe('a budget', () => {
  const { yagna, provider } = faked(nodes(2))

  test('that is spent: bills are refused, and nothing more is rented', SLOW, async () => {
    const made = provider({ budget: 0.0005 })
    await serving(made)
    for (const id of yagna.market.agreements.keys()) yagna.market.debit(id)
    await waitUntil(async () => {
      const error = await made
        .start(specOf({ command }), { signal: AbortSignal.timeout(1_000) })
        .then((running) => running.stop(0))
        .catch((thrown: Error) => thrown.message)
      return String(error).includes('the budget of 0.0005 GLM is spent')
    })
    await made.close?.()
  })
})

describe('the daemon', () => {
  const { yagna, provider } = faked(nodes(4))

  test(
    'away for a while: neither the process nor the instance is lost, its end is known afterwards',
    SLOW,
    async () => {
      const made = provider()
      const running = await serving(made)
      yagna.isAway = true
      await sleep(2_000)
      yagna.isAway = false
      expect(await get(running.dispatcher, '/pid')).toMatch(/^\d+$/)
      void get(running.dispatcher, '/exit?4').catch(() => {})
      expect(await running.exited).toEqual({ reason: 'exited', detail: 'exit code 4' })
      await made.close?.()
    },
  )

  test('away for too long: lost', SLOW, async () => {
    const made = provider({ lostAfter: 500, paymentTimeout: 100 })
    const running = await serving(made)
    yagna.isAway = true
    try {
      const exit = await running.exited
      expect(exit.reason).toBe('lost')
      expect(exit.detail).toMatch(/no answer for 500 ms/)
      await sleep(1_500)
    } finally {
      yagna.isAway = false
    }
    // It is given back as soon as that can be said.
    await waitUntil(
      () => [...yagna.market.agreements.values()].at(-1)?.state === 'Terminated',
      20_000,
    )
    await made.close?.()
  })

  test(
    'a missing daemon or a wrong key fails at once, and the key is in no message',
    SLOW,
    async () => {
      const none = provider({ url: 'http://127.0.0.1:1' })
      const error = await rejectionOf(none.start(specOf({ command }), { signal: unending() }))
      expect(error.code).toBe('MANYHOST_START_FAILED')
      expect(error.message).toMatch(/golem: Failed to establish yagna version/)
      await none.close?.()
      process.env.YAGNA_APPKEY = 'another'
      try {
        const wrong = provider()
        const refused = await rejectionOf(wrong.start(specOf({ command }), { signal: unending() }))
        expect(refused.message).toMatch(/Authorization|Unauthorized|app key/)
        expect(JSON.stringify(refused, Object.getOwnPropertyNames(refused))).not.toContain(
          'another',
        )
        await wrong.close?.()
      } finally {
        process.env.YAGNA_APPKEY = KEY
      }
    },
  )

  test('a budget that the daemon does not have', SLOW, async () => {
    const made = provider({ budget: 1_000_000 })
    const error = await rejectionOf(made.start(specOf({ command }), { signal: unending() }))
    expect(error.message).toMatch(/Could not create new allocation[\s\S]*insufficient funds/)
    await made.close?.()
  })

  test('an image that does not exist', SLOW, async () => {
    const made = provider({ image: 'no/such:image' })
    const error = await rejectionOf(made.start(specOf({ command }), { signal: unending() }))
    expect(error.message).toMatch(/Unable to get image.*no such image/)
    await made.close?.()
  })
})

describe('a session', () => {
  const { provider } = faked(nodes(6))
  const url = 'http://calc'

  test(
    'streams and uploads go through the tunnel; a node that leaves is replaced',
    SLOW,
    async () => {
      const session = new Session({ provider: provider(), tickInterval: 100 })
      const failed = nextEvent(session, 'error').catch(() => undefined)
      session.startup({ url, command, initSize: 2, concurrency: 4 })
      await waitForReady(session, url, 2)
      const client = session.client()
      const body = Buffer.alloc(3_000_000, 'x')
      const all = await Promise.all(
        Array.from({ length: 20 }, () =>
          client.post(`${url}/pid`, { body }).then((one) => one.text()),
        ),
      )
      expect(all.every((pid) => /^\d+$/.test(pid))).toBe(true)
      const { instances } = session.cluster(url)
      await session.close()
      void failed
      for (const { id } of instances) expect(findInstancePids(id)).toEqual([])
    },
  )
})
