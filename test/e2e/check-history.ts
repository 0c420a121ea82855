/**
 * Checks what clients, servers and the session saw of the same requests against what was promised, as distributed
 * databases are checked. Pure: it answers with every broken promise, in words.
 */

/** What happened in the session, in the order in which it happened. */
export type Step =
  | { readonly kind: 'joined'; readonly id: string; readonly priority: number }
  | { readonly kind: 'dispatched'; readonly id: string; readonly attempt: number }
  /** The attempt was interrupted, and another one follows. */
  | { readonly kind: 'resent'; readonly id: string; readonly attempt: number }
  /** `sent`: how many attempts were put on a connection. */
  | { readonly kind: 'settled'; readonly id: string; readonly sent: number }
  /** Requests that waited, and places of ready instances that were free, when all had come to rest. */
  | { readonly kind: 'rest'; readonly waiting: number; readonly free: number }

/** What the client saw of one request. */
export interface Call {
  readonly id: string
  /** The right answer. */
  readonly expected: string
  /** Whether the caller gave it up: then an answer may still have come first. */
  readonly aborted: boolean
  /** Everything that the call led to: an answer's text, or an error's code. */
  readonly outcomes: readonly (
    | { readonly answer: string; readonly status: number }
    | { readonly error: string }
  )[]
}

/** What the servers wrote down: one entry each time a request was begun. */
export interface Execution {
  readonly id: string
  readonly attempt: number
  readonly instance: string
}

export interface History {
  readonly calls: readonly Call[]
  readonly executions: readonly Execution[]
  readonly steps: readonly Step[]
  /** `manyhost_executed_twice_total` */
  readonly executedTwice: number
}

export function checkHistory(history: History): string[] {
  return [
    ...checkCalls(history),
    ...checkExecutions(history),
    ...checkOrder(history.steps),
    ...checkRest(history.steps),
  ]
}

/** Each request is answered exactly once and rightly, or given up by its caller; and executed if it was answered. */
function checkCalls({ calls, executions }: History): string[] {
  const executed = new Set(executions.map(({ id }) => id))
  const wrong: string[] = []
  const seen = new Set<string>()
  for (const { id, expected, aborted, outcomes } of calls) {
    if (seen.has(id)) wrong.push(`${id}: two requests have this id`)
    seen.add(id)
    const [outcome] = outcomes
    if (!outcome || outcomes.length > 1) wrong.push(`${id}: ${outcomes.length} outcomes, not one`)
    else if ('error' in outcome) {
      if (outcome.error !== 'MANYHOST_ABORTED' || !aborted)
        wrong.push(`${id}: lost: ${outcome.error}`)
    } else {
      if (outcome.status !== 200 || outcome.answer !== expected) {
        wrong.push(`${id}: answered ${outcome.status} '${outcome.answer}', not '${expected}'`)
      }
      if (!executed.has(id)) wrong.push(`${id}: answered, but executed by nobody`)
    }
  }
  for (const id of executed) if (!seen.has(id)) wrong.push(`${id}: executed, but never asked for`)
  return wrong
}

/** A later attempt is executed only after the one before was interrupted; and what was executed twice is counted. */
function checkExecutions({ executions, steps, executedTwice }: History): string[] {
  const wrong: string[] = []
  const resent = new Set<string>()
  const counted = new Set<string>()
  for (const step of steps) {
    if (step.kind === 'resent') resent.add(`${step.id} ${step.attempt}`)
    if (step.kind === 'settled' && step.sent > 1) counted.add(step.id)
  }
  const seen = new Set<string>()
  const times = new Map<string, number>()
  for (const { id, attempt, instance } of executions) {
    const name = `${id} ${attempt}`
    if (seen.has(name))
      wrong.push(`${id}: attempt ${attempt} was executed twice, by ${instance}, too`)
    seen.add(name)
    times.set(id, (times.get(id) ?? 0) + 1)
    if (attempt > 1 && !resent.has(`${id} ${attempt - 1}`)) {
      wrong.push(`${id}: attempt ${attempt} without an interruption of the one before`)
    }
  }
  for (const [id, count] of times) {
    if (count > 1 && !counted.has(id)) wrong.push(`${id}: executed ${count} times, and not counted`)
  }
  if (counted.size !== executedTwice) {
    wrong.push(`the metric says ${executedTwice} executed twice, the session ${counted.size}`)
  }
  return wrong
}

/** Requests are first dispatched in the order in which they came, and higher priorities before lower ones. */
function checkOrder(steps: readonly Step[]): string[] {
  const wrong: string[] = []
  const priorities = new Map<string, number>()
  /** Who waits for its first dispatch: sets keep the order of arrival. */
  const waiting = new Map<number, Set<string>>()
  const leave = (id: string): void => void waiting.get(priorities.get(id) as number)?.delete(id)
  for (const step of steps) {
    if (step.kind === 'joined') {
      priorities.set(step.id, step.priority)
      const line = waiting.get(step.priority) ?? new Set()
      waiting.set(step.priority, line.add(step.id))
    } else if (step.kind === 'settled') leave(step.id)
    else if (step.kind === 'dispatched' && step.attempt === 1) {
      const mine = priorities.get(step.id)
      for (const [priority, line] of waiting) {
        const [first] = line
        const passed = priority === mine ? first !== step.id : priority > (mine as number)
        if (first !== undefined && passed) {
          wrong.push(`${step.id} (priority ${mine}) was served before ${first} (${priority})`)
        }
      }
      leave(step.id)
    }
  }
  return wrong
}

/** Nobody waits while a ready instance has a free place. */
function checkRest(steps: readonly Step[]): string[] {
  return steps.flatMap((step) =>
    step.kind === 'rest' && step.waiting > 0 && step.free > 0
      ? [`${step.waiting} waited while ${step.free} places were free`]
      : [],
  )
}
