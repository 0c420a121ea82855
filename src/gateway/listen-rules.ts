/** The options that say where the gateway and the admin address listen. */
import {
  LISTEN_TEXT_FORMS,
  type ListenAddress,
  type ListenOption,
  parseListenAddress,
} from '../core/listen-address.ts'
import { type Form, type Rule, rule } from '../core/options.ts'

/** How an address is written in a file. */
const ADDRESS_FORMS: readonly Form[] = [
  { is: 'number', min: 0, max: 65_535, whole: true },
  { is: 'text' },
]

/** One address, as it was given. */
export function listenRule(initial: ListenOption): Rule<ListenOption> {
  return rule<ListenOption>(
    `${LISTEN_TEXT_FORMS}, { host, port } or { path }`,
    initial,
    (value) => (parseListenAddress(value) ? (value as ListenOption) : undefined),
    { is: 'either', forms: ADDRESS_FORMS },
  )
}

/** One address or a list of them, parsed. */
export function listenListRule(initial: ListenOption): Rule<readonly ListenAddress[]> {
  const parse = (value: unknown): readonly ListenAddress[] | undefined => {
    const addresses = (Array.isArray(value) ? value : [value]).map(parseListenAddress)
    if (addresses.length === 0 || addresses.includes(undefined)) return undefined
    return addresses as readonly ListenAddress[]
  }
  return rule(`${LISTEN_TEXT_FORMS}; or a list of these`, parse(initial), parse, {
    is: 'either',
    forms: [
      ...ADDRESS_FORMS,
      { is: 'list', of: { ...listenRule(initial), range: LISTEN_TEXT_FORMS }, minItems: 1 },
    ],
  })
}
