/** What a user's function may do wrong: the columns of the tables in this folder. */

import { onTestFinished } from 'vitest'
import { inProcess } from '../../providers/testing/index.ts'
import type { Provider } from '../../src/core/provider.ts'
import { type ManyhostError, Session, type SessionOptions } from '../../src/index.ts'
import type { ServiceOptions } from '../../src/session/service.ts'

type AnyFunction = (...args: never[]) => unknown

const hostile = new Proxy(
  {},
  {
    get: () => {
      throw new Error('a getter threw')
    },
  },
)

/** Thrown, or the reason of a rejected promise. */
const THROWN: Readonly<Record<string, unknown>> = {
  'an error': new TypeError('x is undefined'),
  null: null,
  undefined: undefined,
  'a text': 'went wrong',
  'an object without a prototype': Object.create(null),
  'an object whose getters throw': hostile,
  'an error whose message is a number': Object.assign(new Error(), { message: 5 }),
}

/** Functions that throw, at once or later. */
export const throwing: readonly (readonly [string, AnyFunction])[] = Object.entries(THROWN).flatMap(
  ([name, reason]) =>
    [
      [
        `throws ${name}`,
        () => {
          throw reason
        },
      ],
      [`rejects with ${name}`, () => Promise.reject(reason)],
    ] as const,
)

/** Functions that never come to an end. */
export const hanging: readonly (readonly [string, AnyFunction])[] = [
  ['answers a promise that never settles', () => new Promise(() => undefined)],
  // biome-ignore lint/suspicious/noThenProperty: that is what it is about
  ['answers an object whose then does nothing', () => ({ then: () => undefined })],
]

/** Functions that answer what fits nowhere. */
export const nonsense: readonly (readonly [string, AnyFunction])[] = [
  ['answers NaN', () => Number.NaN],
  ['answers -7', () => -7],
  ['answers -Infinity', () => Number.NEGATIVE_INFINITY],
  ['answers a symbol', () => Symbol('x')],
  ['answers an empty object', () => ({})],
  ['answers a promise of a number', () => Promise.resolve(0)],
  [
    'answers an object whose valueOf and toString throw',
    () => ({
      valueOf: () => {
        throw new Error('valueOf threw')
      },
      toString: () => {
        throw new Error('toString threw')
      },
    }),
  ],
  ['answers an object whose getters throw', () => hostile],
  ['answers a function', () => () => 1],
]

export const all = [...throwing, ...hanging, ...nonsense]

export interface Told {
  readonly session: Session
  /** What its event `error` told. */
  readonly errors: ManyhostError[]
}

/** A session with the service `http://calc` on instances in this process. */
export function serving(
  service: Partial<ServiceOptions> = {},
  options: Partial<SessionOptions> = {},
): Told {
  const provider: Provider = inProcess((_req, res) => res.end('3'), { style: 'node' })
  const session = new Session({ provider, tickInterval: 10, ...options })
  onTestFinished(() => session.close({ force: true }))
  const errors: ManyhostError[] = []
  session.on('error', (error) => errors.push(error))
  session.startup({ url: 'http://calc', ...service })
  return { session, errors }
}

/** So many requests, at a time and one after the other; the statuses that there were. */
export async function ask(session: Session, count = 6): Promise<Set<number>> {
  const client = session.client({ timeout: 20_000 })
  const one = async (): Promise<number> => {
    const response = await client.get('http://calc/add/1/2')
    await response.text()
    return response.status
  }
  const statuses = await Promise.all(Array.from({ length: count }, one))
  for (let i = 0; i < 3; i++) statuses.push(await one())
  return new Set(statuses)
}

/** What the process is warned of during the test. */
export function warnings(): string[] {
  const told: string[] = []
  const note = ({ message }: Error): void => void told.push(message)
  process.on('warning', note)
  onTestFinished(() => void process.off('warning', note))
  return told
}

/** Nothing that the test has left behind is rejected, or thrown, a turn of the event loop later. */
export const quiet = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
