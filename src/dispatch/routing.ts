/** The rules of a request's routing options, for the client of the session and its dispatcher. */
import { checkOption, type Rules, rule, text } from '../core/options.ts'
import type { ResendPolicy } from './settings.ts'

const RESEND_POLICIES = ['always', 'idempotent', 'never']

export const ROUTING_RULES = {
  priority: rule<number>('a finite number', undefined, (value) =>
    Number.isFinite(value) ? (value as number) : undefined,
  ),
  affinity: text('a string'),
  resend: rule<ResendPolicy>("'always', 'idempotent', 'never'", undefined, (value) =>
    RESEND_POLICIES.includes(value as string) ? (value as ResendPolicy) : undefined,
  ),
  idempotencyKey: text('a non-empty string', (value) => value !== ''),
  timeout: rule<number>('milliseconds from 0 up (0: no limit)', undefined, (value) =>
    typeof value === 'number' && value >= 0 ? value : undefined,
  ),
} as const

const ROUTING_RULE_ENTRIES = Object.entries(ROUTING_RULES as Rules)

/**
 * Checks the routing options that are given. Other options are ignored.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function checkRouting(
  options: { readonly [N in keyof typeof ROUTING_RULES]?: unknown },
): void {
  const { priority, affinity, resend, idempotencyKey, timeout } = options
  // Most requests have none.
  const isPlain =
    priority === undefined &&
    affinity === undefined &&
    resend === undefined &&
    idempotencyKey === undefined &&
    timeout === undefined
  if (isPlain) return
  for (const [name, one] of ROUTING_RULE_ENTRIES) {
    const value: unknown = Reflect.get(options, name)
    if (value !== undefined && value !== null) checkOption('dispatch', name, value, one)
  }
}
