/** The checker finds what it is there to find. */
import { expect, test } from 'vitest'
import {
  type Call,
  checkHistory,
  type Execution,
  type History,
  type Step,
} from './check-history.ts'

const joined = (id: string, priority = 0): Step => ({ kind: 'joined', id, priority })
const dispatched = (id: string, attempt = 1): Step => ({ kind: 'dispatched', id, attempt })
const resent = (id: string, attempt = 1): Step => ({ kind: 'resent', id, attempt })
const settled = (id: string, sent = 1): Step => ({ kind: 'settled', id, sent })
const ran = (id: string, attempt = 1): Execution => ({ id, attempt, instance: 'i1' })
const call = (id: string, part: Partial<Call> = {}): Call => ({
  id,
  expected: `${id} done`,
  aborted: false,
  outcomes: [{ answer: `${id} done`, status: 200 }],
  ...part,
})

const good: History = {
  calls: [
    call('a'),
    call('b'),
    call('c', { aborted: true, outcomes: [{ error: 'MANYHOST_ABORTED' }] }),
    call('d', { aborted: true }),
  ],
  executions: [ran('a'), ran('b'), ran('b', 2), ran('d')],
  steps: [
    joined('a'),
    joined('b'),
    joined('c'),
    joined('d', 5),
    dispatched('d'),
    dispatched('a'),
    dispatched('b'),
    resent('b'),
    { kind: 'rest', waiting: 3, free: 0 },
    { kind: 'rest', waiting: 0, free: 2 },
    dispatched('b', 2),
    settled('c', 0),
    settled('a'),
    settled('b', 2),
    settled('d'),
  ],
  executedTwice: 1,
}

function without(step: Step): Step[] {
  return good.steps.filter((one) => JSON.stringify(one) !== JSON.stringify(step))
}

/** `good`, with one call in place of another. */
function calls(part: Partial<Call>): Partial<History> {
  return { calls: [{ ...call('a'), ...part }, ...good.calls.slice(1)] }
}

test('a good history has no fault', () => {
  expect(checkHistory(good)).toEqual([])
})

test.each<[string, Partial<History>, string]>([
  ['no answer', calls({ outcomes: [] }), 'a: 0 outcomes'],
  ['two answers', calls({ outcomes: Array(2).fill(call('a').outcomes[0]) }), 'a: 2 outcomes'],
  ['an error', calls({ outcomes: [{ error: 'MANYHOST_TIMEOUT' }] }), 'a: lost: MANYHOST_TIMEOUT'],
  [
    'given up by nobody',
    calls({ outcomes: [{ error: 'MANYHOST_ABORTED' }] }),
    'a: lost: MANYHOST_ABORTED',
  ],
  [
    "another one's answer",
    calls({ outcomes: [{ answer: 'b done', status: 200 }] }),
    "a: answered 200 'b done', not 'a done'",
  ],
  [
    'a wrong status',
    calls({ outcomes: [{ answer: 'a done', status: 500 }] }),
    "a: answered 500 'a done'",
  ],
  ['an id twice', { calls: [...good.calls, call('a')] }, 'a: two requests have this id'],
  [
    'answered and not executed',
    { executions: good.executions.slice(1) },
    'a: answered, but executed by nobody',
  ],
  [
    'executed and not asked for',
    { executions: [...good.executions, ran('x')] },
    'x: executed, but never asked for',
  ],
  [
    'an attempt executed twice',
    { executions: [...good.executions, ran('b')] },
    'b: attempt 1 was executed twice',
  ],
  [
    'a second attempt for no reason',
    { steps: without(resent('b')) },
    'b: attempt 2 without an interruption',
  ],
  [
    'executed twice and not counted',
    {
      steps: good.steps.map((step) => (step === good.steps[13] ? settled('b') : step)),
      executedTwice: 0,
    },
    'b: executed 2 times, and not counted',
  ],
  [
    'a metric that is wrong',
    { executedTwice: 2 },
    'the metric says 2 executed twice, the session 1',
  ],
  [
    'an order that is wrong',
    {
      steps: [joined('a'), joined('b'), dispatched('b'), dispatched('a')],
      executions: [],
      calls: [],
      executedTwice: 0,
    },
    'b (priority 0) was served before a (0)',
  ],
  [
    'a priority that is not heeded',
    {
      steps: [joined('a'), joined('b', 5), dispatched('a')],
      executions: [],
      calls: [],
      executedTwice: 0,
    },
    'a (priority 0) was served before b (5)',
  ],
  [
    'a place that is idle while one waits',
    { steps: [...good.steps, { kind: 'rest', waiting: 1, free: 1 }] },
    '1 waited while 1 places were free',
  ],
])('%s', (_, part, fault) => {
  const faults = checkHistory({ ...good, ...part })
  expect(faults).toHaveLength(1)
  expect(faults[0]).toContain(fault)
})
