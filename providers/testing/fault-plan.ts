/** The options of faults, and the random plan of what happens to a request or a start. Pure except for the generator. */
import { checkKeys, checkNumber, checkOneOf, invalid } from './options.ts'

/** How often something happens: from 0 (never) to 100 (always); fractions are allowed. */
export type Percentage = number

/** Where an exchange breaks. */
export type FaultStage = 'request' | 'headers' | 'body'

interface FaultDelay {
  /** Milliseconds from 0 up, or a range `[min, max]` from which they are drawn. */
  readonly ms: number | readonly [min: number, max: number]
  /** @default 100 */
  readonly percentage?: Percentage
}

/**
 * A request gets at most one of `kill`, `abort` and `status`, in this order of precedence, and a delay besides.
 *
 * `after` says where the exchange breaks. `request`: before anything was sent, no handler sees a start. `headers`: the
 * instance has served the request, but its response does not arrive. `body`: the headers arrive, and about half of the body.
 */
export interface FaultOptions {
  /** Seed of the random generator, a whole number from 0 to 2^32 - 1. @default 1 */
  readonly seed?: number
  /** Time that the request is held back before it goes to the instance. */
  readonly delay?: FaultDelay
  /** The connection breaks with ECONNRESET. @default after: 'request' */
  readonly abort?: { readonly percentage: Percentage; readonly after?: FaultStage }
  /** The response has the status `code`, 200 to 599, and an empty body. The instance does not see the request. */
  readonly status?: { readonly code: number; readonly percentage: Percentage }
  /** As `abort`, and the instance of the request dies. @default after: 'headers' */
  readonly kill?: { readonly percentage: Percentage; readonly after?: FaultStage }
  /** Time that the start of an instance is held back. */
  readonly startDelay?: FaultDelay
  /** The start of an instance fails with MANYHOST_START_FAILED. */
  readonly startFailure?: { readonly percentage: Percentage }
}

/** How many faults of each kind were injected so far. A planned fault that had nothing to break is not counted. */
export type FaultCounts = Readonly<Record<Exclude<keyof FaultOptions, 'seed'>, number>>

/** What happens to one request. `delay` is in ms; 0 is no delay. */
export interface RequestPlan {
  readonly delay: number
  readonly fault?:
    | { readonly kind: 'abort' | 'kill'; readonly after: FaultStage }
    | { readonly kind: 'status'; readonly code: number }
}

/** What happens to one start. `delay` is in ms; 0 is no delay. */
export interface StartPlan {
  readonly delay: number
  readonly fails: boolean
}

/** Gives the next number of a sequence, in [0, 1). */
export type RandomNumber = () => number

/** The generator Mulberry32: small, fast, and the same on every machine. */
export function seededRandom(seed: number): RandomNumber {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}

/** Each request draws five numbers, whatever the options are, so that switching one fault off does not move the others. */
export function planRequest(options: FaultOptions, random: RandomNumber): RequestPlan {
  const delay = drawDelay(options.delay, random)
  const [kills, aborts, answers] = [random(), random(), random()]
  const { kill, abort, status } = options
  if (kill && isHit(kill.percentage, kills)) {
    return { delay, fault: { kind: 'kill', after: kill.after ?? 'headers' } }
  }
  if (abort && isHit(abort.percentage, aborts)) {
    return { delay, fault: { kind: 'abort', after: abort.after ?? 'request' } }
  }
  if (status && isHit(status.percentage, answers)) {
    return { delay, fault: { kind: 'status', code: status.code } }
  }
  return { delay }
}

/** Each start draws three numbers. */
export function planStart(options: FaultOptions, random: RandomNumber): StartPlan {
  const delay = drawDelay(options.startDelay, random)
  return { delay, fails: isHit(options.startFailure?.percentage ?? 0, random()) }
}

function drawDelay(delay: FaultDelay | undefined, random: RandomNumber): number {
  const [occurs, length] = [random(), random()]
  if (!delay || !isHit(delay.percentage ?? 100, occurs)) return 0
  const [min, max] = typeof delay.ms === 'number' ? [delay.ms, delay.ms] : delay.ms
  return min + (max - min) * length
}

function isHit(percentage: Percentage, drawn: number): boolean {
  return drawn * 100 < percentage
}

const FAULT_KEYS: Record<keyof FaultOptions, readonly string[]> = {
  seed: [],
  delay: ['ms', 'percentage'],
  abort: ['percentage', 'after'],
  status: ['code', 'percentage'],
  kill: ['percentage', 'after'],
  startDelay: ['ms', 'percentage'],
  startFailure: ['percentage'],
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function checkFaults(options: FaultOptions): void {
  checkKeys('faults', options, Object.keys(FAULT_KEYS))
  for (const [name, value] of Object.entries(options) as [keyof FaultOptions, unknown][]) {
    if (value === undefined) continue
    if (name === 'seed') checkNumber(name, value, { max: 0xffff_ffff, whole: true })
    else checkFault(name, value as Record<string, unknown>)
  }
}

function checkFault(name: keyof FaultOptions, fault: Record<string, unknown>): void {
  checkKeys(name, fault, FAULT_KEYS[name])
  const isDelay = name === 'delay' || name === 'startDelay'
  if (!isDelay || fault.percentage !== undefined) {
    checkNumber(`${name}.percentage`, fault.percentage, { max: 100 })
  }
  if (isDelay) checkMs(`${name}.ms`, fault.ms)
  if (name === 'status') {
    checkNumber('status.code', fault.code, { min: 200, max: 599, whole: true })
  }
  if (fault.after !== undefined) {
    checkOneOf(`${name}.after`, fault.after, ['request', 'headers', 'body'])
  }
}

function checkMs(name: string, ms: unknown): void {
  if (!Array.isArray(ms)) {
    checkNumber(name, ms, {})
    return
  }
  if (ms.length !== 2) invalid(name, 'a number or [min, max]', ms)
  checkNumber(`${name}[0]`, ms[0], {})
  checkNumber(`${name}[1]`, ms[1], { min: ms[0] })
}
