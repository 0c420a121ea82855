/** Options of the admin address. */
import { ManyhostError } from '../../core/errors.ts'
import {
  type BindAddress,
  type GatewayListen,
  isLoopbackAddress,
  parseBindAddress,
} from '../bind-address.ts'
import { createAdminAccess } from './access.ts'

/** `admin` of a gateway's options; README has the table. */
export interface AdminOptions {
  /** Where the page, the API and `/metrics` are. @default '127.0.0.1:9090' */
  readonly listen?: GatewayListen | readonly GatewayListen[]
  /** Asked for as `Authorization: Bearer`; required as soon as other machines can reach it. */
  readonly token?: string
}

export interface AdminSettings {
  readonly addresses: readonly BindAddress[]
  readonly token: string | undefined
}

/** What `createGateway` was given as `admin`, checked; undefined for what is no such thing. */
export function parseAdminOptions(given: unknown): AdminSettings | undefined {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return undefined
  const { listen = '127.0.0.1:9090', token, ...more } = given as Record<string, unknown>
  const where = (Array.isArray(listen) ? listen : [listen]).map(parseBindAddress)
  if (Object.keys(more).length > 0 || where.length === 0 || where.includes(undefined)) {
    return undefined
  }
  if (token !== undefined && typeof token !== 'string') return undefined
  // Throws for a token that no header can carry.
  createAdminAccess(token)
  const open = (where as BindAddress[]).find((one) => !isLoopbackAddress(one))
  if (open && token === undefined) {
    const text = 'gateway: admin.token is missing: others than this machine can reach admin.listen'
    throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
  }
  return { addresses: where as BindAddress[], token }
}
