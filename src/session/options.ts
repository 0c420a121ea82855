/** The options of a session, with ranges and defaults. */

import { callback, milliseconds, rule, whole } from '../core/options.ts'
import type { Provider } from '../core/provider.ts'
import { isProvider } from '../core/provider-checks.ts'

/** Every option of `new Session`. A test compares README's table with this one. */
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
