/** Decisions without I/O: placement, tokens, kept output, addresses; and docs/agents.md. */
import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { DialTokens } from '../../../providers/agent/dial-tokens.ts'
import { AGENT_METRICS } from '../../../providers/agent/metrics.ts'
import { AGENT_RULES, AGENTS_RULES, isLocalAddress } from '../../../providers/agent/options.ts'
import { AgentOutputSender } from '../../../providers/agent/output-sender.ts'
import {
  type AgentOffer,
  explainNoPlacement,
  hasCapacity,
  type PlacementRequest,
  parseRequiredLabels,
  pickAgent,
} from '../../../providers/agent/placement.ts'
import { parseInstanceAddress } from '../../../providers/agent/splice.ts'
import type { Rule } from '../../../src/core/options.ts'
import { runEventLoop } from '../../help.ts'
import fc from '../../properties.ts'

function offer(part: Partial<AgentOffer> = {}): AgentOffer {
  return {
    isOpen: true,
    maxInstances: 4,
    cpus: 4,
    memory: 1_000,
    labels: {},
    capabilities: new Set(['command']),
    reserved: { instances: 0, cpus: 0, memory: 0 },
    load: 0,
    ...part,
  }
}

function wish(part: Partial<PlacementRequest> = {}): PlacementRequest {
  return { requiredLabels: {}, requiredCapabilities: ['command'], cpus: 0, memory: 0, ...part }
}

describe('placement', () => {
  it('takes the agent whose largest share is the smallest', () => {
    const byCpus = offer({ reserved: { instances: 1, cpus: 3, memory: 0 } })
    const byInstances = offer({ reserved: { instances: 2, cpus: 0, memory: 0 } })
    expect(pickAgent([byCpus, byInstances], wish({ cpus: 1 }))).toBe(byInstances)
    expect(pickAgent([byCpus, byInstances], wish({ cpus: 0, memory: 500 }))).toBe(byCpus)
  })

  it('takes the less busy of equally full agents, then the first', () => {
    const [busy, idle, same] = [offer({ load: 0.9 }), offer({ load: 0.1 }), offer({ load: 0.1 })]
    expect(pickAgent([busy, idle, same], wish())).toBe(idle)
  })

  it('passes over agents that are closed, full, too small, or without a capability or a label', () => {
    const wanted = wish({ requiredLabels: { gpu: 'a100', disk: '*' }, cpus: 2 })
    const labels = { gpu: 'a100', disk: 'ssd' }
    const unfit = [
      offer({ labels, isOpen: false }),
      offer({ labels, reserved: { instances: 4, cpus: 0, memory: 0 } }),
      offer({ labels, reserved: { instances: 1, cpus: 3, memory: 0 } }),
      offer({ labels, cpus: 1 }),
      offer({ labels, capabilities: new Set(['function']) }),
      offer({ labels: { gpu: 'a100' } }),
      offer({ labels: { ...labels, gpu: 'v100' } }),
    ]
    expect(pickAgent(unfit, wanted)).toBeUndefined()
    expect(explainNoPlacement(unfit, wanted)).toBe(
      "1 away or about to leave, 2 full, 1 too small, 1 without the capability 'command', 1 without disk=*, 1 without gpu=a100",
    )
    const right = offer({ labels })
    expect(pickAgent([...unfit, right], wanted)).toBe(right)
  })

  it('does not take an inherited property for a label', () => {
    expect(pickAgent([offer()], wish({ requiredLabels: { toString: '*' } }))).toBeUndefined()
  })

  it('requires the labels that begin with `require.`, and no others', () => {
    expect(parseRequiredLabels({ 'require.gpu': 'a100', team: 'blue' })).toEqual({ gpu: 'a100' })
  })

  it('never reserves more than an agent has', () => {
    const amounts = fc.record({ cpus: fc.nat(8), memory: fc.nat(2_000) })
    const sizes = fc.array(
      fc.record({
        maxInstances: fc.integer({ min: 1, max: 5 }),
        cpus: fc.nat(8),
        memory: fc.nat(2_000),
      }),
    )
    fc.assert(
      fc.property(sizes, fc.array(amounts), (machines, wishes) => {
        const offers = machines.map((machine) =>
          offer({ ...machine, reserved: { instances: 0, cpus: 0, memory: 0 } }),
        )
        for (const amount of wishes) {
          const wanted = wish(amount)
          const found = pickAgent(offers, wanted)
          if (!found) {
            expect(offers.some((one) => hasCapacity(one, wanted))).toBe(false)
            continue
          }
          const taken = found.reserved as { instances: number; cpus: number; memory: number }
          taken.instances++
          taken.cpus += wanted.cpus
          taken.memory += wanted.memory
        }
        for (const { maxInstances, cpus, memory, reserved: taken } of offers) {
          expect(taken.instances).toBeLessThanOrEqual(maxInstances)
          expect(taken.cpus).toBeLessThanOrEqual(cpus)
          expect(taken.memory).toBeLessThanOrEqual(memory)
        }
      }),
    )
  })
})

describe('tokens', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it('are good once, and for the agent to which they were issued', async () => {
    const tokens = new DialTokens<number>('it')
    const token = tokens.issue('lab', 1_000)
    expect(tokens.redeem(token.id, 'other', 1)).toBe(false)
    expect(tokens.redeem(token.id, 'lab', 2)).toBe(true)
    expect(tokens.redeem(token.id, 'lab', 3)).toBe(false)
    expect(await token.redeemed).toBe(2)
    expect(tokens.size).toBe(0)
  })

  it('expire', async () => {
    const tokens = new DialTokens<number>('a tunnel')
    const late = expect(tokens.issue('lab', 1_000).redeemed).rejects.toThrow(/a tunnel .* 1000 ms/)
    vi.advanceTimersByTime(1_000)
    await late
    expect(tokens.size).toBe(0)
  })
})

describe('output that is sent to the hub', () => {
  it('arrives complete and in order, in several pieces', async () => {
    const sent: string[] = []
    const sender = new AgentOutputSender(async (text) => void sent.push(text))
    const text = 'abcdefghij'.repeat(20_000)
    sender.add(text)
    await sender.flush()
    expect(sent.join('')).toBe(text)
    expect(sent.length).toBeGreaterThan(1)
  })

  it('waits for a link, keeps the newest, and says how much was dropped', async () => {
    let isUp = false
    let sent = ''
    const sender = new AgentOutputSender(async (text) => {
      if (!isUp) throw new Error('away')
      sent += text
    })
    for (let i = 0; i < 100; i++) {
      sender.add('x'.repeat(10_000))
      await runEventLoop(1)
    }
    sender.add('the end')
    await sender.flush()
    isUp = true
    await sender.flush()
    expect(sent.endsWith('the end')).toBe(true)
    expect(sent.length).toBeLessThan(300_000)
    const [, lost = ''] = /manyhost: (\d+) characters were not sent/.exec(sent) ?? []
    expect(Number(lost) + sent.replaceAll(/[^x]|the end/g, '').length).toBe(1_000_000)
  })
})

it.each([
  ['http://127.0.0.1:20001', { host: '127.0.0.1', port: 20_001 }],
  ['http://[::1]:80', { host: '::1', port: 80 }],
  ['unix:/run/x.sock', { path: '/run/x.sock' }],
  ['https://x', undefined],
  ['whatever', undefined],
  [undefined, undefined],
])('the address of an instance at %s is parsed', (address, target) => {
  expect(parseInstanceAddress(address)).toEqual(target)
})

it.each([
  ['127.0.0.1:1', true],
  ['127.9.9.9:1', true],
  ['localhost:1', true],
  ['[::1]:1', true],
  [':1', true],
  ['unix:/x', true],
  ['0.0.0.0:1', false],
  ['[::]:1', false],
  ['127.0.0.1.example.com:1', false],
  ['hub:1', false],
])('%s is an address of this machine only: %s', (address, is) => {
  expect(isLocalAddress(address)).toBe(is)
})

describe('docs/agents.md', () => {
  const doc = readFileSync(new URL('../../../docs/agents.md', import.meta.url), 'utf8')
  const rowsOf = (heading: string): string[][] =>
    (doc.split(`\n## ${heading}`)[1] ?? '')
      .split('\n## ')[0]
      ?.split('\n')
      .filter((row) => row.startsWith('| `'))
      .map((row) =>
        row
          .slice(1, -1)
          .split('|')
          .map((cell) => cell.trim().replaceAll('`', '')),
      ) ?? []
  const expected = (rules: Readonly<Record<string, Rule<unknown>>>): string[] =>
    Object.entries(rules).map(([name, { range }]) => `${name}: ${range}`)

  it.each([
    ['Options of `agents`', AGENTS_RULES],
    ['Options of `runAgent`', AGENT_RULES],
  ])('has the %s', (heading, rules) => {
    const rows = rowsOf(heading).map(([name, , range]) => `${name}: ${range}`)
    expect(rows).toEqual(expected(rules))
  })

  it('has the metrics', () => {
    const rows = rowsOf('Metrics').map(([name, ...figure]) => [name, figure])
    expect(rows).toEqual(Object.entries(AGENT_METRICS))
  })
})
