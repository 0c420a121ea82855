/** Options of the client and of its requests, with defaults and ranges. */
import { checkOptions, rule, whole } from '../core/options.ts'
import type { HeadersLike } from '../dispatch/request-input.ts'
import { ROUTING_RULES } from '../dispatch/routing.ts'

/** Every option of `session.client`. A test compares README's table with this one. */
export const CLIENT_RULES = {
  ...ROUTING_RULES,
  headers: rule<HeadersLike>('headers by name, or pairs', undefined, (value) =>
    typeof value === 'object' && value !== null ? (value as HeadersLike) : undefined,
  ),
  baseUrl: rule<string | URL>('an absolute URL', undefined, (value) =>
    URL.canParse(String(value)) ? (value as string | URL) : undefined,
  ),
  redirect: rule<'follow' | 'manual' | 'error'>(
    "'follow', 'manual', 'error'",
    undefined,
    (value) => (value === 'follow' || value === 'manual' || value === 'error' ? value : undefined),
  ),
  maxRedirects: whole(0, 20),
} as const

const anyValue = rule<unknown>('anything', undefined, (value) => value)

/** Every option of a request. A test compares README's table with this one. */
export const REQUEST_RULES = {
  ...ROUTING_RULES,
  json: anyValue,
  form: rule<object>('an object, FormData or URLSearchParams', undefined, (value) =>
    typeof value === 'object' && value !== null ? value : undefined,
  ),
  body: anyValue,
  query: rule<object>('an object, pairs or URLSearchParams', undefined, (value) =>
    typeof value === 'object' && value !== null ? value : undefined,
  ),
  headers: CLIENT_RULES.headers,
  signal: rule<AbortSignal | null>('an AbortSignal', undefined, (value) =>
    value === null || isSignal(value) ? value : undefined,
  ),
  redirect: CLIENT_RULES.redirect,
  maxRedirects: CLIENT_RULES.maxRedirects,
} as const

/** Checks by properties, so that signals of other realms and of polyfills are accepted. */
function isSignal(value: unknown): value is AbortSignal {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof Reflect.get(value, 'aborted') === 'boolean' &&
    typeof Reflect.get(value, 'addEventListener') === 'function'
  )
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function checkRequestOptions(method: string, options: object): void {
  checkOptions(method, options, REQUEST_RULES)
}
