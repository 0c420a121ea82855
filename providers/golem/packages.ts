/** Loads the optional package golem-js, and keeps its output and its errors free of the app key. */
import type * as Golem from '@golem-sdk/golem-js'
import { describeError, ManyhostError } from '../../src/core/errors.ts'

export type { Golem }

export interface GolemPackages {
  readonly golem: typeof Golem
  readonly ws: typeof import('ws')
}

/** @throws ManyhostError MANYHOST_UNSUPPORTED */
export async function loadGolemPackages(): Promise<GolemPackages> {
  try {
    const [golem, ws] = await Promise.all([import('@golem-sdk/golem-js'), import('ws')])
    return { golem, ws }
  } catch (cause) {
    throw new ManyhostError(
      'MANYHOST_UNSUPPORTED',
      "golem needs the packages golem-js and ws: npm install '@golem-sdk/golem-js@^3.6' ws",
      { cause },
    )
  }
}

/** The default logger would write all options, also the app key, to a log that the variable DEBUG opens. */
export const silentLogger: Golem.Logger = {
  child: () => silentLogger,
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
}

/** The message of an error with its reasons, without the app key: golem-js keeps reasons in `previous`, and URLs with the key. */
export function explainGolemError(error: unknown, key: string): string {
  const parts: string[] = []
  let one: unknown = error
  for (let depth = 0; one !== undefined && one !== null && depth < 5; depth++) {
    const message = describeError(one)
    if (!parts.some((part) => part.includes(message))) parts.push(message)
    const { previous, cause } = one as { previous?: unknown; cause?: unknown }
    one = previous ?? cause
  }
  const all = parts.join(': ').slice(0, 1_000)
  return key === '' ? all : all.replaceAll(key, '***')
}
