/** Options of the session, its client and its dispatcher, with defaults and ranges. */
import type { HeadersLike } from './dispatch/facts.ts'
import type { ResendPolicy } from './dispatch/settings.ts'
import { callback, milliseconds, rule, text, whole } from './options.ts'
import type { Provider } from './provider.ts'
import { isProvider } from './service.ts'

const RESEND = ['always', 'idempotent', 'never']

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

export const ROUTING_RULES = {
  priority: rule<number>('a finite number', undefined, (value) =>
    Number.isFinite(value) ? (value as number) : undefined,
  ),
  affinity: text('a string'),
  resend: rule<ResendPolicy>("'always', 'idempotent', 'never'", undefined, (value) =>
    RESEND.includes(value as string) ? (value as ResendPolicy) : undefined,
  ),
  idempotencyKey: text('a non-empty string', (value) => value !== ''),
  timeout: rule<number>('milliseconds from 0 up (0: no limit)', undefined, (value) =>
    typeof value === 'number' && value >= 0 ? value : undefined,
  ),
} as const

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
