/** Options of the admin address. */
import { ManyhostError } from '../../core/errors.ts'
import {
  isLoopbackAddress,
  type ListenAddress,
  type ListenOption,
} from '../../core/listen-address.ts'
import { parseOptions, type Rule } from '../../core/options.ts'
import { isVisibleAscii, secretText } from '../../core/text-rules.ts'
import { listenListRule } from '../listen-rules.ts'

/** `admin` of the gateway's options. */
export interface AdminOptions {
  /** Where the dashboard, the API and `/metrics` are: an address or a list of addresses. @default '127.0.0.1:9090' */
  readonly listen?: ListenOption | readonly ListenOption[]
  /** Callers must send it as `Authorization: Bearer`. Required if other machines can connect. */
  readonly token?: string
}

/** The rules of code and of `admin` in a fleet file. */
export const ADMIN_RULES = {
  listen: listenListRule('127.0.0.1:9090'),
  token: secretText('a text of visible ASCII characters without blanks', isVisibleAscii),
} as const satisfies Record<keyof AdminOptions, Rule<unknown>>

export interface AdminSettings {
  readonly addresses: readonly ListenAddress[]
  readonly token: string | undefined
}

/**
 * What `createGateway` was given as `admin`; undefined if it is not an object.
 * @throws ManyhostError MANYHOST_INVALID_OPTION
 */
export function parseAdminOptions(given: unknown): AdminSettings | undefined {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return undefined
  const { listen, token } = parseOptions('gateway: admin', given, ADMIN_RULES)
  if (needsToken({ listen, token })) {
    const text = 'gateway: admin.token is missing: other machines can connect to admin.listen'
    throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
  }
  return { addresses: listen, token }
}

/** Whether other machines can connect although there is no token. */
export function needsToken({
  listen,
  token,
}: {
  readonly listen: readonly ListenAddress[]
  readonly token: string | undefined
}): boolean {
  return token === undefined && !listen.every(isLoopbackAddress)
}
