/** The options of `slurm`, with their rules. */
import { type ParsedOptions, parseOptions, record, rule, text } from '../../src/core/options.ts'
import {
  ADOPT_RULE,
  atLeastRule,
  countRule,
  invalidOption,
  isLine,
  isPort,
  isRecord,
  lineRule,
  PORTS_RULE,
} from '../shared/option-rules.ts'

export interface SlurmOptions {
  /** Path of slurm.conf. @default $SLURM_CONF, or the path that the commands were built with */
  readonly conf?: string
  /** Folder of sbatch, squeue and scancel. @default the folders of PATH */
  readonly bin?: string
  /** `unix:/path` or `http://host:port` of a slurmrestd, which is then used instead of the commands. */
  readonly rest?: string
  /** Version of slurmrestd's interface. @default 'v0.0.38' */
  readonly restVersion?: string
  /** A file with the token for slurmrestd. @default $SLURM_JWT; a unix socket needs no token */
  readonly tokenFile?: string
  readonly partition?: string
  readonly account?: string
  readonly qos?: string
  /** Features that the node must have, as `--constraint` takes them. */
  readonly constraint?: string
  /** Minutes that a job may run. @default the limit of the partition */
  readonly timeLimit?: number
  /** An instance is drained and replaced this many seconds before its time limit. @default 60 */
  readonly drainBefore?: number
  /** CPUs of a job whose service asks for none. @default Slurm's own */
  readonly cpus?: number
  /** Bytes of memory of a job whose service asks for none. @default Slurm's own */
  readonly memory?: number
  /** Further options of sbatch, each as `--name=value`. They cannot be used with `rest`. */
  readonly extra?: readonly string[]
  /**
   * Where jobs call back: an address of this machine that the nodes reach, and a port. The provider listens there.
   * `listen` is the address to listen on, if it differs from `host`.
   * @default { host: '127.0.0.1', port: 0 }: for nodes that are this machine
   */
  readonly callback?: { readonly host: string; readonly port?: number; readonly listen?: string }
  /** Address that instances listen on. @default the address by which their node is seen from here */
  readonly host?: string
  /** First and last port of instances, both included. @default [20000, 32000] */
  readonly ports?: readonly [from: number, to: number]
  /** Environment of all instances. A variable of the service replaces one of these. */
  readonly env?: Readonly<Record<string, string>>
  /** Folder that instances run in, if their service names none. @default the working directory */
  readonly cwd?: string
  /** Milliseconds between two looks at the queue; one look serves all instances. @default 2000 */
  readonly pollInterval?: number
  /** Whether the jobs that a killed session left are cancelled at the first start. @default 'sweep' */
  readonly adopt?: 'sweep' | 'keep'
}

/** Options of sbatch that the provider sets itself, or that would take a job out of its control. */
const RESERVED_OPTIONS = [
  'array',
  'begin',
  'chdir',
  'clusters',
  'comment',
  'dependency',
  'error',
  'export',
  'export-file',
  'get-user-env',
  'input',
  'job-name',
  'no-requeue',
  'output',
  'parsable',
  'requeue',
  'signal',
  'test-only',
  'wait',
  'wrap',
]

type SlurmCallback = NonNullable<SlurmOptions['callback']>

const PATH_RULE = lineRule('a path')
const NAME_RULE = lineRule('a name')

/** Every option with its range and default. */
const SLURM_RULES = {
  conf: PATH_RULE,
  bin: PATH_RULE,
  rest: text("like 'unix:/path' or 'http://host:port'", isRestUrl),
  restVersion: {
    ...text("like 'v0.0.38'", (value) => /^v0\.0\.\d{2}$/.test(value)),
    initial: 'v0.0.38',
  },
  tokenFile: PATH_RULE,
  partition: NAME_RULE,
  account: NAME_RULE,
  qos: NAME_RULE,
  constraint: lineRule('a text'),
  timeLimit: countRule('a whole number of minutes from 1 up'),
  drainBefore: countRule('a whole number of seconds from 1 up'),
  cpus: countRule(),
  memory: atLeastRule('bytes', 1_048_576),
  extra: rule<readonly string[]>(
    `a list of texts like '--gres=gpu:1', none of --${RESERVED_OPTIONS.join(', --')}`,
    undefined,
    (value) =>
      Array.isArray(value) && value.every((one) => isLine(one) && isExtraOption(one))
        ? value
        : undefined,
  ),
  callback: rule<SlurmCallback>('{ host, port, listen }', { host: '127.0.0.1' }, (value) =>
    isCallback(value) ? value : undefined,
  ),
  host: lineRule('an address'),
  ports: PORTS_RULE,
  env: record(),
  cwd: PATH_RULE,
  pollInterval: atLeastRule('milliseconds', 100, 2_000),
  adopt: ADOPT_RULE,
} as const

export type SlurmSettings = ParsedOptions<typeof SLURM_RULES> &
  Pick<
    SlurmOptions,
    'rest' | 'timeLimit' | 'cpus' | 'memory' | 'host' | 'bin' | 'conf' | 'extra' | 'tokenFile'
  >

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseSlurmOptions(options: SlurmOptions): SlurmSettings {
  const settings = parseOptions('slurm', options, SLURM_RULES)
  const { rest, extra, timeLimit, drainBefore } = options
  if (rest && extra?.length) {
    throw invalidOption(
      `slurm: extra cannot be used with rest: its options are for sbatch, got ${extra.join(' ')}`,
    )
  }
  if (timeLimit && drainBefore && drainBefore >= 60 * timeLimit) {
    throw invalidOption(
      `slurm: drainBefore must be less than timeLimit, got ${drainBefore} s of ${timeLimit} min`,
    )
  }
  return {
    ...settings,
    cwd: settings.cwd ?? process.cwd(),
    drainBefore: drainBefore ?? Math.min(60, timeLimit ? 30 * timeLimit : 60),
  }
}

function isRestUrl(value: string): boolean {
  if (value.startsWith('unix:/')) return true
  return /^https?:\/\//.test(value) && URL.canParse(value) && new URL(value).pathname === '/'
}

function isExtraOption(option: string): boolean {
  const found = /^--([a-z][a-z-]*)(=|$)/.exec(option)
  // sbatch accepts the beginning of a long option for the option itself.
  return (
    found?.[1] !== undefined &&
    !RESERVED_OPTIONS.some((ours) => ours.startsWith(found[1] as string))
  )
}

function isCallback(value: unknown): value is SlurmCallback {
  if (!isRecord(value)) return false
  const { host, port, listen, ...others } = value
  return (
    isLine(host) &&
    /^[\w.:-]+$/.test(host) &&
    (port === undefined || port === 0 || isPort(port)) &&
    (listen === undefined || isLine(listen)) &&
    Object.keys(others).length === 0
  )
}
