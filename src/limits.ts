/** Options of the session, its client and its dispatcher, with defaults and ranges. */
import type { HeadersLike } from './dispatch/facts.ts'
import { ROUTING_RULES } from './dispatch/routing.ts'
import { callback, checkOptions, milliseconds, rule, whole } from './options.ts'
import type { Provider } from './provider.ts'
import { isProvider } from './service.ts'

/** Every option of `new Session`. README's table is held against this one by a test. */
export const SESSION_RULES = {
  provider: rule<Provider>('a provider', undefined, (value) =>
    isProvider(value) ? value : undefined,
  ),
  tickInterval: milliseconds(1_000),
  budget: rule<{ instances: number }>(
    '{ instances: a whole number from 1 up }',
    undefined,
    (value) => {
      if (typeof value !== 'object' || value === null || Object.keys(value).length !== 1)
        return undefined
      const instances = Reflect.get(value, 'instances')
      return Number.isInteger(instances) && instances > 0 ? { instances } : undefined
    },
    {
      is: 'options',
      rules: { instances: { ...whole(1, 1), initial: undefined } },
      required: ['instances'],
    },
  ),
  random: callback<() => number>('a function that gives numbers in [0, 1)'),
} as const

export { ROUTING_RULES }

/** Every option of `session.client`. README's table is held against this one by a test. */
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

const anything = rule<unknown>('anything', undefined, (value) => value)

/** Every option of a request. README's table is held against this one by a test. */
export const REQUEST_RULES = {
  ...ROUTING_RULES,
  json: anything,
  form: rule<object>('an object, FormData or URLSearchParams', undefined, (value) =>
    typeof value === 'object' && value !== null ? value : undefined,
  ),
  body: anything,
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

/** By its looks: signals of other realms and of polyfills will do. */
function isSignal(value: unknown): value is AbortSignal {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof Reflect.get(value, 'aborted') === 'boolean' &&
    typeof Reflect.get(value, 'addEventListener') === 'function'
  )
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function checkRequest(method: string, options: object): void {
  checkOptions(method, options, REQUEST_RULES)
}
