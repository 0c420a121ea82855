/** Reads the size of a service: `3`, `1..8`, or a load balancer by its name, with its settings. */
import { asError, ManyhostError } from '../core/errors.ts'
import { type NumberForm, type Rule, rule, whole } from '../core/options.ts'
import { BALANCER_SETTINGS } from '../sizing/balancer-settings.ts'
import { IdleToZero, QueueLength, SimpleLoadBalancer, TargetInFlight } from '../sizing/policies.ts'
import { checkSetting, describeSettingRange, type PolicySetting } from '../sizing/settings.ts'
import type { SizeSpec } from '../sizing/size.ts'
import type { SizedCluster } from '../sizing/sized-cluster.ts'
import { bounds } from '../sizing/wrappers.ts'
import { findNearest } from './nearest.ts'
import { describeNode, readFields } from './read-fields.ts'
import type { ConfigReader } from './reader.ts'
import type { YamlMapping, YamlTree } from './yaml-tree.ts'

export type BalancerName = keyof typeof BALANCER_SETTINGS
export const BALANCER_NAMES = Object.keys(BALANCER_SETTINGS) as BalancerName[]

export type SizeConfig =
  | { readonly fixed: number }
  | {
      readonly balancer: BalancerName
      readonly min: number
      /** May be `Infinity`. */
      readonly max: number
      readonly settings: Readonly<Record<string, number>>
    }

/** `1..8` stands for this load balancer with this `scaleDownDelay`, in ms. */
const RANGE_BALANCER = 'queue-length'
const RANGE_SCALE_DOWN_DELAY = 30_000

const SIZE_FORMS =
  "a whole number from 0 up, a range such as '1..8', or { balancer, min, max, ... }"

/** A size for `session.setSize`. It is a new one at each call, because load balancers have state. */
export function toSizeSpec(size: SizeConfig): SizeSpec {
  if ('fixed' in size) return size.fixed
  const { balancer, min, max, settings } = size
  return bounds((cluster: SizedCluster) => createBalancer(balancer, cluster, settings), {
    min,
    max,
  })
}

function createBalancer(
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
  const settings = BALANCER_SETTINGS[name]({ concurrency: 1, size: 1 })
  const own = Object.entries(settings).map(([key, setting]) => [key, settingRule(setting)])
  return {
    min: whole(0, 0),
    max: whole(0, Number.POSITIVE_INFINITY),
    // `max` of `simple` is the bound as well.
    ...Object.fromEntries(own),
  }
}

function settingRule(setting: PolicySetting): Rule<number> {
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
    ? `milliseconds ${describeSettingRange(setting).replace('a number ', '')}`
    : describeSettingRange(setting)
  return rule(range, setting.default, parse, form)
}

/** Undefined if the size is wrong, which was reported. */
export function readSize(
  reader: ConfigReader,
  node: YamlTree,
  path: string,
  cluster: { readonly concurrency: number; readonly url: string },
): SizeConfig | undefined {
  reader.countValue(node)
  if (node.kind === 'mapping') return readBalancer(reader, node, path, cluster)
  const read = node.kind === 'scalar' ? reader.resolveScalar(node, path) : { value: null }
  if (!read) return undefined
  const size = parseSize(read.value, 'substituted' in read && read.substituted)
  if (typeof size === 'object') return size
  const why = size ?? `${path} must be ${SIZE_FORMS}, got ${describeNode(reader, node)}`
  reader.reportProblem(node, path, size ? `${path}: ${size}` : why)
  return undefined
}

/** A size; or the reason why it is wrong; or undefined if it does not have the form of a size. */
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
  return {
    balancer: RANGE_BALANCER,
    min,
    max,
    settings: { scaleDownDelay: RANGE_SCALE_DOWN_DELAY },
  }
}

function readBalancer(
  reader: ConfigReader,
  node: YamlMapping,
  path: string,
  cluster: { readonly concurrency: number; readonly url: string },
): SizeConfig | undefined {
  const before = reader.problemCount
  const given = node.entries.get('balancer')?.value
  const name = given ? readBalancerName(reader, given, `${path}.balancer`) : RANGE_BALANCER
  if (!name) return undefined
  const fields = readFields(reader, node, balancerRules(name), path, { readers: { balancer() {} } })
  if (!fields || reader.problemCount > before) return undefined
  const { min = 0, max = Number.POSITIVE_INFINITY, ...rest } = fields as Record<string, number>
  const settings: Record<string, number> = rest as Record<string, number>
  if (name === 'simple' && max !== Number.POSITIVE_INFINITY) settings.max = max
  if (min > max) {
    const at = node.entries.get('min')?.value ?? node
    reader.reportProblem(
      at,
      `${path}.min`,
      `${path}.min must not be above max, got ${min} and ${max}`,
    )
    return undefined
  }
  try {
    createBalancer(name, { ...IDLE_CLUSTER, ...cluster, size: min }, settings)
  } catch (error) {
    if (!(error instanceof ManyhostError)) throw error
    reader.reportProblem(node, path, `${path}: ${asError(error).message.replace(/^\w+: /, '')}`)
    return undefined
  }
  return { balancer: name, min, max, settings }
}

function readBalancerName(
  reader: ConfigReader,
  node: YamlTree,
  path: string,
): BalancerName | undefined {
  const value = node.kind === 'scalar' ? reader.resolveScalar(node, path)?.value : null
  const name = BALANCER_NAMES.find((one) => one === value)
  if (name) return name
  const near = findNearest(String(value), BALANCER_NAMES)
  const question = near ? `; did you mean '${near}'?` : ''
  const message = `${path} must be one of ${BALANCER_NAMES.join(', ')}, got ${describeNode(reader, node)}`
  reader.reportProblem(node, path, message + question)
  return undefined
}

/** A cluster without work, with which settings are checked. */
const IDLE_CLUSTER: SizedCluster = {
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
