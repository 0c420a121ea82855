/** What the rules say of what a client of the fuzz test got. */

import { type ConnectionPlan, headersOf, MAX_ATTEMPTS, type RequestPlan } from './fuzz-plan.ts'
import { markOf } from './fuzz-responses.ts'
import { TruncatedResponse, takeResponse } from './raw-instance.ts'

/** What a client got for one request. */
interface Got {
  readonly status: number
  readonly body: string
  readonly id: string | undefined
  readonly isProblem: boolean
}

/**
 * Reads the answers in their order.
 * @param isReset whether the connection ended so: to HTTP/1.0 that is what tells a part from a whole
 */
export function findConnectionFault(
  plan: ConnectionPlan,
  text: string,
  isReset: boolean,
): string | undefined {
  let rest = text
  for (const [index, request] of plan.requests.entries()) {
    // Whatever it is now, its answer is of no interest as long as there is an end.
    if (plan.isMutated && index === plan.requests.length - 1) return undefined
    for (;;) {
      if (rest === '') {
        return request.answer.kind === 'good' ? `no answer to ${request.id}` : undefined
      }
      let taken: ReturnType<typeof takeResponse>
      try {
        taken = takeResponse(rest, request.method)
      } catch (error) {
        if (error instanceof TruncatedResponse && request.answer.kind !== 'good') return undefined
        throw error
      }
      const { answer } = taken
      if (isReset && request.version === '1.0' && request.answer.kind !== 'good') return undefined
      rest = taken.left
      if (answer.status < 200) {
        if (request.version === '1.0') return `${answer.status} for HTTP/1.0`
        continue
      }
      const value = (name: string): string | undefined =>
        answer.headers.find(([one]) => one === name)?.[1]
      const isProblem = value('content-type') === 'application/problem+json'
      const got = { status: answer.status, body: answer.body, id: value('x-request-id'), isProblem }
      const wrong = findResponseFault(request, got)
      if (wrong) return wrong
      if (value('connection') === 'close')
        return rest === '' ? undefined : `more after the end: ${rest}`
      break
    }
  }
  return rest === '' ? undefined : `more than was asked for: ${rest}`
}

/** What is wrong with a whole answer. */
export function findResponseFault(
  { id, method, answer }: RequestPlan,
  got: Got,
  isTwo = false,
): string | undefined {
  const { kind, status } = answer
  if (got.isProblem && got.id !== id) return `the problem of ${got.id} for ${id}`
  if (kind === 'mutated') return undefined
  if (kind !== 'good' || (isTwo && status > 599)) {
    return got.isProblem && got.status === 502
      ? undefined
      : `${got.status} for an answer that is ${kind}`
  }
  if (got.isProblem) return `a problem for a good answer: ${got.body}`
  if (got.status !== status) return `${got.status} for ${status}`
  const hasContent = method !== 'HEAD' && status !== 204 && status !== 205 && status !== 304
  const wanted = hasContent ? answer.body : ''
  return got.body === wanted ? undefined : `${got.body.length} bytes for ${wanted.length}`
}

/** Marks of requests of other connections in what came. A mutation may make one of a request that there is not. */
export function findForeignBytes(
  got: string,
  { requests }: ConnectionPlan,
  all: ReadonlyMap<string, RequestPlan>,
): string | undefined {
  const own = new Set(requests.map(({ id }) => markOf(id)))
  const marks = got.match(/<<[0-9a-f]{8}>>/g) ?? []
  const other = marks.find((found) => !own.has(found) && all.has(found.slice(2, -2)))
  return other && `${other} belongs to another connection`
}

export function findRepeats(times: readonly number[]) {
  return ({ id, answer }: RequestPlan, index: number): string | undefined => {
    const count = times[index] as number
    const isOnce = answer.kind === 'good' || answer.kind === 'refused'
    const most = isOnce ? 1 : MAX_ATTEMPTS
    return count > most
      ? `${id} was executed ${count} times, its answer is ${answer.kind}`
      : undefined
  }
}

export function describeFindings(
  plan: ConnectionPlan,
  why: string,
  { got, times }: { readonly got: string; readonly times: readonly number[] },
): string {
  const short = (text: string): string =>
    JSON.stringify(text).replace(
      /(.{1,16}?)\1{9,}/g,
      (all, part) => `(${part} x ${all.length / part.length})`,
    )
  const answers = plan.requests.map(({ id, method, answer }, index) => {
    const { kind, status, end, isEarly, pieces } = answer
    return `  ${id} ${method}: ${kind} ${status} ${end}${isEarly ? ' early' : ''}, executed ${times[index]} times\n    ${pieces.map(short).join('\n    ')}`
  })
  return [
    `seed ${plan.seed} (MANYHOST_FUZZ=1 MANYHOST_FUZZ_SEED=${plan.seed} repeats it): ${short(why)}`,
    ` client over HTTP/${plan.isTwo ? 2 : 1}, ${JSON.stringify(plan.end)}${plan.isMutated ? ', its last request mutated' : ''}:`,
    ...(plan.isTwo
      ? plan.requests.map(
          (request) => `    ${JSON.stringify(headersOf(request))} ${request.body.length}`,
        )
      : plan.pieces.map((piece) => `    ${short(piece)}`)),
    ' instance:',
    ...answers,
    ` got: ${short(got)}`,
  ].join('\n')
}
