/** Options of the admin address. */
import { ManyhostError } from '../../core/errors.ts'
import { type Address, address, isLocal, type Listen } from '../address.ts'
import { access } from './access.ts'

/** `admin` of a gateway's options; README has the table. */
export interface AdminOptions {
  /** Where the page, the API and `/metrics` are. @default '127.0.0.1:9090' */
  readonly listen?: Listen | readonly Listen[]
  /** Asked for as `Authorization: Bearer`; required as soon as other machines can reach it. */
  readonly token?: string
}

export interface AdminSettings {
  readonly where: readonly Address[]
  readonly token: string | undefined
}

/** What `createGateway` was given as `admin`, checked; undefined for what is no such thing. */
export function parseAdmin(given: unknown): AdminSettings | undefined {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) return undefined
  const { listen = '127.0.0.1:9090', token, ...more } = given as Record<string, unknown>
  const where = (Array.isArray(listen) ? listen : [listen]).map(address)
  if (Object.keys(more).length > 0 || where.length === 0 || where.includes(undefined)) {
    return undefined
  }
  if (token !== undefined && typeof token !== 'string') return undefined
  // Throws for a token that no header can carry.
  access(token)
  const open = (where as Address[]).find((one) => !isLocal(one))
  if (open && token === undefined) {
    const text = 'gateway: admin.token is missing: others than this machine can reach admin.listen'
    throw new ManyhostError('MANYHOST_INVALID_OPTION', text)
  }
  return { where: where as Address[], token }
}
