/** What to do about a failed attempt, how soon, and what is counted. */

import { describe, expect, test } from 'vitest'
import { ManyhostError } from '../../src/core/errors.ts'
import { createBudget, deposit, resendBackoff, withdraw } from '../../src/dispatch/budget.ts'
import { DURATION_BUCKETS, Histogram } from '../../src/dispatch/histogram.ts'
import {
  type AttemptFailure,
  decideVerdict,
  failureReasonOf,
  isIdempotent,
  mayRepeat,
} from '../../src/dispatch/verdict.ts'
import { expectNothingLeft } from '../leftovers.ts'
import fc from '../properties.ts'

expectNothingLeft()

const plain: AttemptFailure = {
  reason: 'connection',
  sent: true,
  passedOn: false,
  method: 'POST',
  hasIdempotencyKey: false,
  policy: 'always',
  attempts: 1,
  maxAttempts: 5,
}

describe('verdict', () => {
  test.each<[string, Partial<AttemptFailure>, string]>([
    ['sent again, by default whatever the method', {}, 'resend'],
    ['the last attempt', { attempts: 5 }, 'exhausted'],
    ['a part of the answer was passed on', { passedOn: true }, 'interrupted'],
    ['passed on, and the last attempt', { passedOn: true, attempts: 5 }, 'interrupted'],
    ['never', { policy: 'never' }, 'forbidden'],
    ['never, and not sent', { policy: 'never', sent: false }, 'resend'],
    ['never, and handed back', { policy: 'never', reason: 'returned' }, 'resend'],
    ['handed back for the last time', { reason: 'returned', attempts: 5 }, 'exhausted'],
    ['idempotent: a POST', { policy: 'idempotent' }, 'forbidden'],
    ['idempotent: a PUT', { policy: 'idempotent', method: 'PUT' }, 'resend'],
    ['idempotent: a POST with a key', { policy: 'idempotent', hasIdempotencyKey: true }, 'resend'],
    ["the caller's fault", { reason: 'caller', sent: false }, 'caller'],
    ["the session's end", { reason: 'closed', passedOn: true, policy: 'never' }, 'closed'],
  ])('%s', (_, part, expected) => {
    expect(decideVerdict({ ...plain, ...part })).toBe(expected)
  })

  test('is never a resend of what may have been executed, where that is forbidden', () => {
    fc.assert(
      fc.property(
        fc.record({
          reason: fc.constantFrom(
            'connection',
            'ended',
            'unhealthy',
            'protocol',
            'attempt-timeout',
          ),
          sent: fc.constant(true),
          passedOn: fc.boolean(),
          method: fc.constantFrom('GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'QUERY', 'LINK'),
          hasIdempotencyKey: fc.boolean(),
          policy: fc.constantFrom('always', 'idempotent', 'never'),
          attempts: fc.integer({ min: 1, max: 10 }),
          maxAttempts: fc.integer({ min: 1, max: 10 }),
        }),
        (failure) => {
          if (decideVerdict(failure as AttemptFailure) !== 'resend') return
          const { policy, method, hasIdempotencyKey, attempts, maxAttempts, passedOn } =
            failure as AttemptFailure
          expect(mayRepeat(policy, method, hasIdempotencyKey)).toBe(true)
          expect([passedOn, attempts < maxAttempts]).toEqual([false, true])
        },
      ),
    )
  })

  test('methods are idempotent as RFC 9110 says', () => {
    const methods = ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE', 'POST', 'PATCH', 'CONNECT']
    expect(methods.filter(isIdempotent)).toEqual(methods.slice(0, 6))
  })

  test.each<[Error, boolean, string]>([
    [Object.assign(new Error(), { code: 'ECONNREFUSED' }), false, 'connect'],
    [Object.assign(new Error(), { code: 'ECONNREFUSED' }), true, 'connection'],
    [Object.assign(new Error(), { code: 'UND_ERR_CONNECT_TIMEOUT' }), false, 'connect'],
    [Object.assign(new Error(), { code: 'ECONNRESET' }), true, 'connection'],
    [
      Object.assign(new Error(), { name: 'HTTPParserError', code: 'HPE_INVALID_CONSTANT' }),
      true,
      'protocol',
    ],
    [Object.assign(new Error(), { code: 'UND_ERR_HEADERS_OVERFLOW' }), true, 'protocol'],
    [Object.assign(new Error(), { code: 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH' }), true, 'protocol'],
    [Object.assign(new Error(), { code: 'UND_ERR_INVALID_ARG' }), false, 'caller'],
    [new ManyhostError('MANYHOST_BODY_FAILED', ''), true, 'caller'],
    [new ManyhostError('MANYHOST_INSTANCE_ENDED', ''), true, 'ended'],
    [new ManyhostError('MANYHOST_INSTANCE_UNHEALTHY', ''), true, 'unhealthy'],
    [new ManyhostError('MANYHOST_ATTEMPT_TIMEOUT', ''), true, 'attempt-timeout'],
    [new ManyhostError('MANYHOST_RETURNED', ''), true, 'returned'],
    [new ManyhostError('MANYHOST_SESSION_CLOSED', ''), true, 'closed'],
    [new Error('anything'), true, 'connection'],
  ])('%o, sent %s: %s', (error, sent, reason) => {
    expect(failureReasonOf(error, sent)).toBe(reason)
  })
})

describe('the resend budget', () => {
  test('lets a burst go at once, then spreads what exceeds it', () => {
    const budget = createBudget(0)
    const waits = Array.from({ length: 1_100 }, () => withdraw(budget, 0))
    expect(waits.slice(0, 1_000)).toEqual(Array(1_000).fill(0))
    expect(waits[1_000]).toBeGreaterThan(0)
    for (let i = 1_001; i < waits.length; i++) {
      expect(waits[i]).toBeGreaterThanOrEqual(waits[i - 1] as number)
    }
  })

  test('never makes anybody wait longer than 5 s, and is never in debt for longer', () => {
    const step = fc.record({ after: fc.nat(500), requests: fc.nat(20), resends: fc.nat(400) })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const budget = createBudget(0)
        let now = 0
        for (const { after, requests, resends } of steps) {
          now += after
          for (let i = 0; i < requests; i++) deposit(budget)
          for (let i = 0; i < resends; i++) {
            const wait = withdraw(budget, now)
            if (!(wait >= 0 && wait <= 5_000)) expect.fail(`it waits ${wait} ms`)
          }
        }
        expect(withdraw(budget, now + 6_000)).toBe(0)
        expect(budget.tokens).toBeLessThanOrEqual(1_000)
      }),
    )
  })

  test('gives a fifth of the requests back', () => {
    const budget = createBudget(0)
    for (let i = 0; i < 1_000; i++) withdraw(budget, 0)
    for (let i = 0; i < 100; i++) deposit(budget)
    const free = Array.from({ length: 30 }, () => withdraw(budget, 0)).filter((wait) => wait === 0)
    // Fractions add up to a little less than they should.
    expect([19, 20]).toContain(free.length)
  })

  test('backoff: none before the second attempt, then doubling with jitter up to a second', () => {
    expect([1, 2].map((attempt) => resendBackoff(attempt, () => 0.99))).toEqual([0, 0])
    const attempts = fc.integer({ min: 3, max: 1_000 })
    const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
    fc.assert(
      fc.property(attempts, random, (attempt, draw) => {
        const full = Math.min(1_000, 10 * 2 ** (attempt - 3))
        const wait = resendBackoff(attempt, () => draw)
        expect(wait).toBeGreaterThanOrEqual(full / 2)
        expect(wait).toBeLessThanOrEqual(full)
      }),
    )
  })
})

describe('a histogram', () => {
  const durations = fc.array(fc.double({ min: 0.02, max: 3e7, noNaN: true }), {
    minLength: 1,
    maxLength: 300,
  })

  test('answers quantiles that are at most 9 % off', () => {
    fc.assert(
      fc.property(durations, fc.double({ min: 0.01, max: 1, noNaN: true }), (values, q) => {
        const histogram = new Histogram()
        for (const value of values) histogram.record(value)
        const exact = values.toSorted((a, b) => a - b)[Math.ceil(q * values.length) - 1] as number
        expect(Math.abs(histogram.quantile(q) / exact - 1)).toBeLessThanOrEqual(0.09)
      }),
      { numRuns: 500 },
    )
  })

  test('counts every value in just one bucket, and sums them', () => {
    fc.assert(
      fc.property(durations, (values) => {
        const histogram = new Histogram()
        for (const value of values) histogram.record(value)
        expect(histogram.count).toBe(values.length)
        expect(histogram.sum).toBeCloseTo(
          values.reduce((a, b) => a + b),
          3,
        )
        let cumulated = 0
        DURATION_BUCKETS.forEach((le, index) => {
          cumulated += histogram.counts[index] as number
          expect(cumulated).toBe(values.filter((value) => value / 1_000 <= le).length)
        })
        expect(cumulated + (histogram.counts.at(-1) as number)).toBe(values.length)
      }),
    )
  })

  test('follows the present as it forgets, and is 0 before the first value', () => {
    const histogram = new Histogram()
    expect(histogram.quantiles()).toEqual({ p50: 0, p90: 0, p99: 0, mean: 0 })
    for (let i = 0; i < 100; i++) histogram.record(1_000)
    for (let i = 0; i < 10; i++) histogram.fade()
    for (let i = 0; i < 10; i++) histogram.record(1)
    expect(histogram.quantile(0.9)).toBeLessThan(2)
    expect(histogram.count).toBe(110)
  })

  test('takes what is too small and too large', () => {
    const histogram = new Histogram()
    for (const value of [0, 1e-9, 1e12]) histogram.record(value)
    expect(histogram.quantile(0.5)).toBeLessThan(0.02)
    expect(Number.isFinite(histogram.quantile(1))).toBe(true)
  })
})
