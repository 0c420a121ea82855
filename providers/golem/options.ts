/** The options of `golem`, with their rules. */
import { readFileSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import type { Registry } from 'prom-client'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import {
  milliseconds,
  nested,
  oneOf,
  type ParsedOptions,
  parseOptions,
  type Rule,
  record,
  rule,
  text,
  whole,
} from '../../src/core/options.ts'
import { excludeFromChildren } from '../../src/posix/environment.ts'
import { portRule } from '../shared/option-rules.ts'

export interface GolemOptions {
  /** The most that all instances may cost together, in GLM. This amount is reserved (allocated). Required. */
  readonly budget: number
  /** Hours for which the budget is reserved. No instance is rented for longer than that. @default 168 */
  readonly budgetHours?: number
  /** `http://host:port` of the yagna daemon. @default YAGNA_API_URL, or 'http://127.0.0.1:7465' */
  readonly url?: string
  /** File that holds the app key of the daemon. @default the key is in YAGNA_APPKEY */
  readonly appKeyFile?: string
  /** Network that payments go through: `holesky` is a test network, `polygon` real money. @default PAYMENT_NETWORK, or 'holesky' */
  readonly paymentNetwork?: string
  /** Subnet of the market. @default YAGNA_SUBNET, or 'public' */
  readonly subnet?: string
  /** Highest prices that are paid, in GLM. @default { start: 0.5, cpuHour: 1, hour: 0.5 } */
  readonly maxPrices?: {
    readonly start?: number
    readonly cpuHour?: number
    readonly hour?: number
  }
  /** Image of the services that name none: a SHA3 hash, a tag, `https://host/x.gvmi#hash` or `file:///x.gvmi`. */
  readonly image?: string
  /** Maximum number of instances, of all services together. @default 100 */
  readonly maxInstances?: number
  /** Hours for which an instance is rented. Before they are over the instance drains and is replaced. @default 1 */
  readonly rentHours?: number
  /** An instance drains this many milliseconds before the end of its rent. @default 300000 */
  readonly drainBefore?: number
  /** Address range of the private network. @default '192.168.0.0/16' */
  readonly vpn?: string
  /** Port that servers listen on; each has a machine of its own. @default 80 */
  readonly port?: number
  /** Addresses that servers are told to listen on: all, or that of the private network alone. @default 'all' */
  readonly listen?: 'all' | 'address'
  /** A volume of the image, through which files are copied. @default '/golem/work' */
  readonly volume?: string
  /** Environment of all instances. A variable of the service replaces one of these. */
  readonly env?: Readonly<Record<string, string>>
  /** Folder that instances run in. @default '/' */
  readonly cwd?: string
  /** Longest time of one look at an instance, in ms. A `stop` waits until the look is over. @default 2000 */
  readonly watch?: number
  /** An instance is lost after this many milliseconds without an answer from the daemon, or from itself. @default 60000 */
  readonly lostAfter?: number
  /** A node that has failed is not rented again for this many milliseconds. @default 1800000 */
  readonly avoidFor?: number
  /** How long `close` waits for the last bills, in ms. @default 60000 */
  readonly paymentTimeout?: number
  /** Registry for the metrics `manyhost_golem_...`. */
  readonly registry?: Registry
}

const positiveRule = (what: string, initial?: number): Rule<number> =>
  rule(
    what,
    initial,
    (value) =>
      typeof value === 'number' && Number.isFinite(value) && value > 0 ? value : undefined,
    { is: 'number', min: 0, exclusiveMin: true },
  )

const PRICE_RULE: Rule<number> = rule(
  'GLM from 0 up',
  undefined,
  (value) =>
    typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value : undefined,
  { is: 'number', min: 0 },
)

const NAME_RULE = text('a name', (value) => /^[\w.-]{1,100}$/.test(value))

/** The prices of golem-js's own examples. */
const DEFAULT_MAX_PRICES = { start: 0.5, cpuHour: 1, hour: 0.5 }

/** Every option with its range and default. A test compares docs/golem.md with this table. */
export const GOLEM_RULES = {
  budget: positiveRule('GLM above 0'),
  budgetHours: positiveRule('hours above 0', 168),
  url: text('http://host:port', isUrl),
  appKeyFile: text('the path of a file', (value) => value !== ''),
  paymentNetwork: NAME_RULE,
  subnet: NAME_RULE,
  maxPrices: nested<NonNullable<GolemOptions['maxPrices']>>(
    '{ start, cpuHour, hour }',
    { start: PRICE_RULE, cpuHour: PRICE_RULE, hour: PRICE_RULE },
    [],
    DEFAULT_MAX_PRICES,
  ),
  image: text("a hash, a tag 'name/image:version', https://...#hash or file:///...", isImage),
  maxInstances: whole(1, 100),
  rentHours: positiveRule('hours above 0', 1),
  drainBefore: milliseconds(300_000, 'none'),
  vpn: text("an address range as '192.168.0.0/16'", (value) =>
    /^\d{1,3}(\.\d{1,3}){3}\/([89]|1\d|2[0-8])$/.test(value),
  ),
  port: portRule(80),
  listen: oneOf(['all', 'address'], 'all'),
  volume: { ...text('an absolute path', isAbsolute), initial: '/golem/work' },
  env: record(),
  cwd: { ...text('an absolute path', isAbsolute), initial: '/' },
  watch: milliseconds(2_000),
  lostAfter: milliseconds(60_000),
  avoidFor: milliseconds(1_800_000, 'none is avoided'),
  paymentTimeout: milliseconds(60_000, 'not at all'),
  registry: rule<Registry>('a registry of prom-client', undefined, (value) =>
    typeof (value as Partial<Registry> | null)?.registerMetric === 'function'
      ? (value as Registry)
      : undefined,
  ),
} as const

export type GolemSettings = ParsedOptions<typeof GOLEM_RULES>

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseGolemOptions(options: GolemOptions): GolemSettings {
  const settings = parseOptions('golem', options, GOLEM_RULES)
  if (settings.budget === undefined) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      'golem: budget must be given: the most that all instances may cost together, in GLM',
    )
  }
  if (settings.drainBefore >= settings.rentHours * 3_600_000) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `golem: drainBefore must be less than rentHours, got ${settings.drainBefore} ms of ${settings.rentHours} h`,
    )
  }
  return { ...settings, maxPrices: { ...DEFAULT_MAX_PRICES, ...settings.maxPrices } }
}

/** The app key, from the file or the variable of the options. @throws ManyhostError MANYHOST_START_FAILED */
export function readAppKey({ appKeyFile }: GolemSettings): string {
  excludeFromChildren('YAGNA_APPKEY')
  let key = process.env.YAGNA_APPKEY
  try {
    if (appKeyFile !== undefined) key = readFileSync(appKeyFile, 'utf8').trim()
  } catch (cause) {
    const why = `golem: cannot read appKeyFile: ${describeError(cause)}`
    throw new ManyhostError('MANYHOST_START_FAILED', why, { cause })
  }
  if (key) return key
  const why =
    'golem: no app key: set YAGNA_APPKEY, or option appKeyFile (yagna app-key create NAME)'
  throw new ManyhostError('MANYHOST_START_FAILED', why)
}

type GolemImage =
  | { imageHash: string }
  | { imageTag: string }
  | { imageUrl: string; imageHash?: string }

/** An image in the form that golem-js takes. */
export function parseImage(image: string): GolemImage {
  if (image.startsWith('file://')) return { imageUrl: image }
  if (/^https?:\/\//.test(image)) {
    const at = image.lastIndexOf('#')
    return { imageUrl: image.slice(0, at), imageHash: image.slice(at + 1) }
  }
  return /^[0-9a-f]{56}$/i.test(image) ? { imageHash: image } : { imageTag: image }
}

function isImage(value: string): boolean {
  if (/^https?:\/\//.test(value)) return /#[0-9a-f]{56}$/i.test(value)
  return /^file:\/\/\/./.test(value) || /^[\w.-]+(\/[\w.-]+)*(:[\w.-]+)?$/.test(value)
}

function isUrl(value: string): boolean {
  return URL.canParse(value) && /^https?:$/.test(new URL(value).protocol)
}
