/** How many instances: `3`, `1..8`, or a load balancer by its name, with its settings. */
import { asError, ManyhostError } from '../core/errors.ts'
import { type NumberForm, type Rule, rule, whole } from '../core/options.ts'
import { bounds } from '../sizing/damp.ts'
import { IdleToZero, QueueLength, SimpleLoadBalancer, TargetInFlight } from '../sizing/policies.ts'
import { RANGES } from '../sizing/ranges.ts'
import { checkSetting, rangeOf, type Setting } from '../sizing/settings.ts'
import type { SizeSpec } from '../sizing/size.ts'
import type { SizedCluster } from '../sizing/sized.ts'
import { nearest } from './nearest.ts'
import { readFields, show } from './read.ts'
import type { Reader } from './reader.ts'
import type { Mapping, Tree } from './tree.ts'

export type BalancerName = keyof typeof RANGES
export const BALANCERS = Object.keys(RANGES) as BalancerName[]

export type SizeConfig =
  | { readonly fixed: number }
  | {
      readonly balancer: BalancerName
      readonly min: number
      /** May be `Infinity`. */
      readonly max: number
      readonly settings: Readonly<Record<string, number>>
    }

/** What `1..8` means: no instance goes before it was idle for so long. */
const RANGE_BALANCER = 'queue-length'
const RANGE_DELAY = 30_000

const FORMS = "a whole number from 0 up, a range such as '1..8', or { balancer, min, max, ... }"

/** What `session.setSize` takes. A new one each time: load balancers remember. */
export function sizeSpec(size: SizeConfig): SizeSpec {
  if ('fixed' in size) return size.fixed
  const { balancer, min, max, settings } = size
  return bounds((cluster: SizedCluster) => balance(balancer, cluster, settings), { min, max })
}

function balance(
  name: BalancerName,
  cluster: SizedCluster,
  settings: Readonly<Record<string, number>>,
): { valueOf(): number } {
  switch (name) {
    case 'simple':
      return new SimpleLoadBalancer(cluster, settings)
    case 'queue-length':
      return new QueueLength(cluster, settings)
    case 'target-in-flight':
      return new TargetInFlight(cluster, settings)
    case 'idle-to-zero':
      return new IdleToZero(cluster, settings)
  }
}

/** The rules of a load balancer in a file: `min` and `max`, and its own settings. */
export function balancerRules(name: BalancerName): Record<string, Rule<unknown>> {
  const settings = RANGES[name]({ concurrency: 1, size: 1 })
  const own = Object.entries(settings).map(([key, setting]) => [key, settingRule(setting)])
  return {
    min: whole(0, 0),
    max: whole(0, Number.POSITIVE_INFINITY),
    // `max` of the simple one is the same thing as the bound.
    ...Object.fromEntries(own),
  }
}

function settingRule(setting: Setting): Rule<number> {
  const { min, max, whole: isWhole = false, unit } = setting
  const parse = (value: unknown): number | undefined => {
    try {
      return checkSetting('', value, setting)
    } catch {
      return undefined
    }
  }
  const form: NumberForm = {
    is: 'number',
    min,
    whole: isWhole,
    unlimited: max === undefined,
    ...(max !== undefined && { max }),
    ...(unit && { unit }),
  }
  const range = unit
    ? `milliseconds ${rangeOf(setting).replace('a number ', '')}`
    : rangeOf(setting)
  return rule(range, setting.default, parse, form)
}

/** Undefined when it was refused, and reported. */
export function readSize(
  reader: Reader,
  node: Tree,
  path: string,
  cluster: { readonly concurrency: number; readonly url: string },
): SizeConfig | undefined {
  reader.look(node)
  if (node.kind === 'mapping') return readBalancer(reader, node, path, cluster)
  const read = node.kind === 'scalar' ? reader.value(node, path) : { value: null }
  if (!read) return undefined
  const size = parseSize(read.value, 'substituted' in read && read.substituted)
  if (typeof size === 'object') return size
  const why = size ?? `${path} must be ${FORMS}, got ${show(reader, node)}`
  reader.fail(node, path, size ? `${path}: ${size}` : why)
  return undefined
}

/** A size, or what is wrong with it, or undefined when it has not the form of one. */
function parseSize(value: unknown, substituted: boolean): SizeConfig | string | undefined {
  const number = substituted && /^\d{1,15}$/.test(String(value)) ? Number(value) : value
  if (typeof number === 'number') {
    return Number.isSafeInteger(number) && number >= 0 ? { fixed: number } : undefined
  }
  const match = /^(\d{1,15})\s?\.\.\s?(\d{1,15})?$/.exec(String(value))
  if (!match) return undefined
  const min = Number(match[1])
  const max = match[2] === undefined ? Number.POSITIVE_INFINITY : Number(match[2])
  if (min > max) return `the first number of a range must not be above the second`
  return { balancer: RANGE_BALANCER, min, max, settings: { scaleDownDelay: RANGE_DELAY } }
}

function readBalancer(
  reader: Reader,
  node: Mapping,
  path: string,
  cluster: { readonly concurrency: number; readonly url: string },
): SizeConfig | undefined {
  const before = reader.failures
  const given = node.entries.get('balancer')?.value
  const name = given ? readName(reader, given, `${path}.balancer`) : RANGE_BALANCER
  if (!name) return undefined
  const fields = readFields(reader, node, balancerRules(name), path, { others: { balancer() {} } })
  if (!fields || reader.failures > before) return undefined
  const { min = 0, max = Number.POSITIVE_INFINITY, ...rest } = fields as Record<string, number>
  const settings: Record<string, number> = rest as Record<string, number>
  if (name === 'simple' && max !== Number.POSITIVE_INFINITY) settings.max = max
  if (min > max) {
    const at = node.entries.get('min')?.value ?? node
    reader.fail(at, `${path}.min`, `${path}.min must not be above max, got ${min} and ${max}`)
    return undefined
  }
  try {
    balance(name, { ...EMPTY, ...cluster, size: min }, settings)
  } catch (error) {
    if (!(error instanceof ManyhostError)) throw error
    reader.fail(node, path, `${path}: ${asError(error).message.replace(/^\w+: /, '')}`)
    return undefined
  }
  return { balancer: name, min, max, settings }
}

function readName(reader: Reader, node: Tree, path: string): BalancerName | undefined {
  const value = node.kind === 'scalar' ? reader.value(node, path)?.value : null
  const name = BALANCERS.find((one) => one === value)
  if (name) return name
  const near = nearest(String(value), BALANCERS)
  const question = near ? `; did you mean '${near}'?` : ''
  const message = `${path} must be one of ${BALANCERS.join(', ')}, got ${show(reader, node)}`
  reader.fail(node, path, message + question)
  return undefined
}

/** A cluster without work, for settings to be tried on. */
const EMPTY: SizedCluster = {
  url: '',
  size: 0,
  minSize: 0,
  maxSize: Number.POSITIVE_INFINITY,
  concurrency: 1,
  instances: [],
  requestQueue: { size: 0, isEmpty: true, oldestAge: 0 },
  inFlight: 0,
  stats: () => ({
    arrivals: 0,
    completions: 0,
    failures: 0,
    resends: 0,
    latency: { p50: 0, p90: 0, p99: 0, mean: 0 },
  }),
}
