import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Registry } from 'prom-client'
import { expect, test } from 'vitest'
import { AvoidedNodes } from '../../../providers/golem/avoided-nodes.ts'
import {
  GOLEM_METRICS,
  type GolemBill,
  GolemCosts,
  maxCost,
} from '../../../providers/golem/costs.ts'
import { golem } from '../../../providers/golem/index.ts'
import { type GolemOffer, GolemOfferQueue } from '../../../providers/golem/offer-queue.ts'
import {
  GOLEM_RULES,
  parseGolemOptions,
  parseImage,
  readAppKey,
} from '../../../providers/golem/options.ts'
import { explainGolemError } from '../../../providers/golem/packages.ts'
import {
  type GolemCommandEvent,
  launchScript,
  lookScript,
  type OutputProgress,
  parseLookOutput,
  unpackScript,
} from '../../../providers/golem/scripts.ts'
import { catchThrown } from '../../help.ts'

const HASH = 'ab'.repeat(28)

test.each([
  [{}, /budget must be given/],
  [{ budget: 0 }, /budget must be GLM above 0, got 0/],
  [{ budget: 1, bugdet: 2 }, /unknown option 'bugdet'/],
  [{ budget: 1, url: 'ftp://x' }, /url must be http/],
  [{ budget: 1, image: 'https://x/y.gvmi' }, /image must be a hash/],
  [{ budget: 1, vpn: '10.0.0.0' }, /vpn must be an address range/],
  [{ budget: 1, maxPrices: { hour: -1 } }, /hour must be GLM from 0 up/],
  [{ budget: 1, rentHours: 0.05 }, /drainBefore must be less than rentHours/],
  [{ budget: 1, volume: 'work' }, /volume must be an absolute path/],
])('options %j', (options, message) => {
  const error = catchThrown(() => golem(options as never))
  expect(error.code).toBe('MANYHOST_INVALID_OPTION')
  expect(error.message).toMatch(message)
})

test('prices that are left out have their defaults', () => {
  expect(parseGolemOptions({ budget: 1, maxPrices: { start: 0 } }).maxPrices).toEqual({
    start: 0,
    cpuHour: 1,
    hour: 0.5,
  })
})

test('an image is a hash, a tag, or a URL', () => {
  expect(parseImage(HASH)).toEqual({ imageHash: HASH })
  expect(parseImage('golem/node:20-alpine')).toEqual({ imageTag: 'golem/node:20-alpine' })
  expect(parseImage('file:///x/y.gvmi')).toEqual({ imageUrl: 'file:///x/y.gvmi' })
  const imageUrl = 'https://x/y.gvmi'
  expect(parseImage(`${imageUrl}#${HASH}`)).toEqual({ imageUrl, imageHash: HASH })
})

test('the app key comes from a file or the environment, and is in no message', () => {
  const folder = mkdtempSync(join(tmpdir(), 'manyhost-golem-key-'))
  const appKeyFile = join(folder, 'key')
  try {
    writeFileSync(appKeyFile, 'secret\n')
    expect(readAppKey(parseGolemOptions({ budget: 1, appKeyFile }))).toBe('secret')
  } finally {
    rmSync(folder, { recursive: true })
  }
  expect(
    catchThrown(() => readAppKey(parseGolemOptions({ budget: 1, appKeyFile }))).message,
  ).toMatch(/cannot read appKeyFile/)
  const deep = Object.assign(new Error('outer'), {
    previous: new Error('ws://x?authToken=secret failed'),
  })
  expect(explainGolemError(deep, 'secret')).toBe('outer: ws://x?authToken=*** failed')
})

test('a node that has failed is avoided for some time', () => {
  const avoided = new AvoidedNodes(100)
  avoided.add('a', 0)
  expect([avoided.has('a', 99), avoided.has('b', 0), avoided.has('a', 100)]).toEqual([
    true,
    false,
    false,
  ])
  for (let node = 0; node < 5_000; node++) avoided.add(String(node), 0)
  expect(avoided.count(0)).toBe(1_000)
  expect(avoided.has('4999', 0)).toBe(true)
  const none = new AvoidedNodes(0)
  none.add('a', 0)
  expect(none.has('a', 0)).toBe(false)
})

test('offers: cheapest first, one of each node, none of a node in use', async () => {
  const busy = new Set<string>()
  const offers = new GolemOfferQueue<GolemOffer>(({ node }) => !busy.has(node))
  const reserve = ({ node }: GolemOffer): void => void busy.add(node)
  const { signal } = new AbortController()
  const waiting = offers.take(signal, reserve)
  offers.add({ node: 'dear', cost: 3 })
  expect((await waiting).node).toBe('dear')
  offers.add({ node: 'b', cost: 2 })
  offers.add({ node: 'a', cost: 1 })
  offers.add({ node: 'a', cost: 1.5 })
  offers.add({ node: 'dear', cost: 0 })
  const all = await Promise.all([offers.take(signal, reserve), offers.take(signal, reserve)])
  expect(all).toEqual([
    { node: 'a', cost: 1.5 },
    { node: 'b', cost: 2 },
  ])
  const freed = offers.take(signal, reserve)
  busy.delete('dear')
  offers.serveWaiting()
  expect(await freed).toEqual({ node: 'dear', cost: 0 })
})

test('a start that is given up takes no offer', async () => {
  const offers = new GolemOfferQueue<GolemOffer>(() => true)
  const giveUp = new AbortController()
  const waiting = offers.take(giveUp.signal, () => {})
  giveUp.abort(new Error('enough'))
  await expect(waiting).rejects.toThrow('enough')
  offers.add({ node: 'a', cost: 1 })
  expect(offers.size).toBe(1)
})

test('a bill says the sum that is due; only the difference is granted', async () => {
  const registry = new Registry()
  const costs = new GolemCosts(1, registry, { numRented: () => 2, numAvoided: () => 3 })
  const bill: GolemBill = { service: 'http://calc', granted: 0 }
  costs.grant(bill, 0.25)
  costs.grant(bill, 0.75)
  costs.grant(bill, 0.5)
  costs.refuse(bill, 5.75)
  expect([costs.remaining, costs.isSpent]).toEqual([0.25, false])
  const text = await registry.metrics()
  expect(text).toContain('manyhost_golem_cost_glm_total{service="http://calc"} 0.75')
  expect(text).toContain('manyhost_golem_cost_refused_glm_total{service="http://calc"} 5')
  expect(text).toContain('manyhost_golem_cost_left_glm 0.25')
  expect(text).toContain('manyhost_golem_rented 2')
  expect(text).toContain('manyhost_golem_avoided 3')
  expect([costs.grant(bill, 1.5), costs.remaining, costs.isSpent]).toEqual([false, 0.25, true])
})

test('a machine cannot have cost more than its price', () => {
  const price = { envSec: 0.1, cpuSec: 0.2, start: 1, threads: 2 }
  expect(maxCost(price, 0)).toBeCloseTo(1 + 120 * 0.5)
  expect(maxCost(price, 80)).toBeCloseTo(1 + 200 * 0.5)
})

test('the output of a look is read correctly, whatever the instance has written', () => {
  const seen: OutputProgress[] = [
    { number: 1, out: 0, err: 5 },
    { number: 2, out: 0, err: 0 },
  ]
  const told =
    '\nT 1 out 9\nT 1 exit 0\nx\nT 1 err 2\n!\n' +
    '\nT 1 exit 7\n' +
    '\nT 2 out 3\nabc\nT 2 out empty\n'
  expect(parseLookOutput(told.replace('T 1 exit 0\nx', 'T1 exit 0'), seen, 'T')).toEqual([
    { kind: 'out', number: 1, text: 'T1 exit 0' },
    { kind: 'err', number: 1, text: '!\n' },
    { kind: 'exit', number: 1, code: 7 },
    { kind: 'out', number: 2, text: 'abc' },
  ])
  expect(seen).toEqual([
    { number: 1, out: 9, err: 7 },
    { number: 2, out: 0, err: 0 },
  ])
})

test('the scripts work in the shells of images, also if they run twice', () => {
  const id = `golem-unit-${process.pid}`
  const sh = (script: string): string =>
    execFileSync('/bin/sh', ['-c', script], { encoding: 'utf8', timeout: 20_000 })
  const what = {
    id,
    number: 1,
    command: 'sh',
    args: ['-c', 'echo "$A $MANYHOST_INSTANCE"; echo ä >&2; exit 9'],
    cwd: '/',
    env: { A: `it's\n"so"` },
  }
  try {
    expect(sh(launchScript(what))).toMatch(/^@\d+\n$/)
    expect(sh(launchScript(what))).toMatch(/^@\d+\n$/)
    const seen = [{ number: 1, out: 0, err: 0 }]
    const news: GolemCommandEvent[] = []
    while (!news.some(({ kind }) => kind === 'exit')) {
      news.push(...parseLookOutput(sh(lookScript(id, seen, 5_000, 'tok')), seen, 'tok'))
    }
    expect(news.filter(({ kind }) => kind === 'exit')).toEqual([
      { kind: 'exit', number: 1, code: 9 },
    ])
    const texts = (name: string) =>
      news.flatMap((one) => (one.kind === name && 'text' in one ? [one.text] : [])).join('')
    expect(texts('out')).toBe(`it's\n"so" ${id}\n`)
    expect(texts('err')).toBe('ä\n')
    expect(sh(launchScript({ ...what, number: 2, command: 'no-such-thing' }))).toBe(
      "!command 'no-such-thing' not found, or not executable\n",
    )
    expect(sh(launchScript({ ...what, number: 3, cwd: '/no/such' }))).toMatch(/^!cwd '\/no\/such'/)
    expect(sh(unpackScript('/no/such/file', `/tmp/.manyhost/${id}/x`, 'x', '644'))).toMatch(/=1\n$/)
  } finally {
    rmSync(`/tmp/.manyhost/${id}`, { recursive: true, force: true })
  }
})

test('docs/golem.md names every option and every metric', () => {
  const text = readFileSync('docs/golem.md', 'utf8')
  for (const name of [...Object.keys(GOLEM_RULES), ...Object.keys(GOLEM_METRICS)]) {
    expect(text).toContain(`\`${name}`)
  }
})
