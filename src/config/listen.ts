/** Addresses to listen on, and addresses that are trusted. Pure. */
import { isIP } from 'node:net'
import { isLoopback, type Rule, rule } from '../core/options.ts'

/** Where a server listens. */
export type ConfigListen =
  | { readonly host: string; readonly port: number }
  | { readonly socketPath: string }

/** `'127.0.0.1:8080'`, `'[::1]:8080'`, `':8080'` (all addresses), `8080` (this machine), `'unix:/path'`. */
function parseListen(value: unknown): ConfigListen | undefined {
  if (typeof value === 'number') return isPort(value) && { host: '127.0.0.1', port: value }
  if (typeof value !== 'string' || value.length > 300) return undefined
  if (/^unix:\//.test(value)) return { socketPath: value.slice(5) }
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9.-]*|\*)):(\d{1,5})$/.exec(value)
  const number = match ? Number(match[3]) : Number.NaN
  if (!match || !isPort(number)) return undefined
  if (match[1] !== undefined && isIP(match[1]) !== 6) return undefined
  const named = match[1] ?? match[2] ?? ''
  return { host: named === '' || named === '*' ? '::' : named, port: number }
}

function isPort(value: number): true | undefined {
  return (Number.isInteger(value) && value >= 0 && value <= 65_535) || undefined
}

/** Whether only this machine gets there. */
export function isLocalListen(listen: ConfigListen): boolean {
  return 'socketPath' in listen || isLoopback(listen.host)
}

const LISTEN_FORMS = "an address such as '127.0.0.1:8080', ':8080', 8080 or 'unix:/run/x.sock'"

/** One address, or a list. */
export function listenRule(initial: string): Rule<readonly ConfigListen[]> {
  const one = rule<ConfigListen>(LISTEN_FORMS, undefined, parseListen, {
    is: 'either',
    forms: [{ is: 'number', min: 0, max: 65_535, whole: true }, { is: 'text' }],
  })
  const parse = (value: unknown): readonly ConfigListen[] | undefined => {
    const given = Array.isArray(value) ? value : [value]
    const parsed = given.map(parseListen)
    if (parsed.length === 0) return undefined
    return parsed.every((each) => each !== undefined) ? (parsed as ConfigListen[]) : undefined
  }
  return rule(`${LISTEN_FORMS}, or a list of such`, parse(initial), parse, {
    is: 'either',
    forms: [
      { is: 'number', min: 0, max: 65_535, whole: true },
      { is: 'text' },
      { is: 'list', of: one, minItems: 1 },
    ],
  })
}

/** An IP address, or a range such as `10.0.0.0/8`. */
export function isNetwork(value: string): boolean {
  const [address = '', bits, more] = value.split('/')
  const version = isIP(address)
  if (version === 0 || more !== undefined) return false
  return (
    bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (version === 4 ? 32 : 128))
  )
}
