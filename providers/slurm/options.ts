/** Options of `slurm`, checked once, where they are given. */
import {
  checkOptions,
  invalidOption,
  isAtLeast,
  isEnvironment,
  isPort,
  isPortRange,
  isRecord,
  isText,
  isTextList,
} from '../shared/option-checks.ts'

export interface SlurmOptions {
  /** Path of slurm.conf. @default $SLURM_CONF, or what the commands were built with */
  readonly conf?: string
  /** Folder of sbatch, squeue and scancel. @default they are found by PATH */
  readonly bin?: string
  /** `unix:/path` or `http://host:port` of a slurmrestd, which is then asked instead of the commands. */
  readonly rest?: string
  /** Version of slurmrestd's interface. @default 'v0.0.38' */
  readonly restVersion?: string
  /** A file with the token for slurmrestd. @default $SLURM_JWT; over a unix socket none is needed */
  readonly tokenFile?: string
  readonly partition?: string
  readonly account?: string
  readonly qos?: string
  /** Features that the node must have, as `--constraint` takes them. */
  readonly constraint?: string
  /** Minutes that a job may run. @default that of the partition */
  readonly timeLimit?: number
  /** Seconds before its time limit at which an instance is drained, and replaced. @default 60 */
  readonly drainBefore?: number
  /** CPUs of a job whose service asks for none. @default Slurm's own */
  readonly cpus?: number
  /** Bytes of memory of a job whose service asks for none. @default Slurm's own */
  readonly memory?: number
  /** Further options of sbatch, each as `--name=value`; for the commands alone. */
  readonly extra?: readonly string[]
  /**
   * Where jobs call back: an address of this machine that the nodes reach, which is listened on, and the port.
   * `listen` is for an address that differs from what the nodes are told.
   * @default { host: '127.0.0.1', port: 0 }: nodes that are this machine
   */
  readonly callback?: { readonly host: string; readonly port?: number; readonly listen?: string }
  /** Where instances listen on their node. @default the address that their node has for us */
  readonly host?: string
  /** First and last port of instances, both included. @default [20000, 32000] */
  readonly ports?: readonly [from: number, to: number]
  /** Environment of all instances; a service's own comes on top. */
  readonly env?: Readonly<Record<string, string>>
  /** Folder that instances run in; a service's own comes first. @default the working directory */
  readonly cwd?: string
  /** Milliseconds between two looks at the queue, one for all instances. @default 2000 */
  readonly pollInterval?: number
  /** What is done at the first start about jobs of sessions that were killed. @default 'sweep' */
  readonly adopt?: 'sweep' | 'keep'
}

/** Options of sbatch that are ours, or would take a job out of our hands. */
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

const PATH_CHECK = ['a path', isText] as const
const NAME_CHECK = ['a name', isText] as const

const SLURM_CHECKS = {
  conf: PATH_CHECK,
  bin: PATH_CHECK,
  rest: ["like 'unix:/path' or 'http://host:port'", isRestUrl],
  restVersion: ["like 'v0.0.38'", (value: unknown) => /^v0\.0\.\d{2}$/.test(String(value))],
  tokenFile: PATH_CHECK,
  partition: NAME_CHECK,
  account: NAME_CHECK,
  qos: NAME_CHECK,
  constraint: ['a text', isText],
  timeLimit: ['a whole number of minutes from 1 up', isCount],
  drainBefore: ['a whole number of seconds from 1 up', isCount],
  cpus: ['a whole number from 1 up', isCount],
  memory: ['bytes from 1 MiB up', isAtLeast(1_048_576)],
  extra: [
    `a list of texts like '--gres=gpu:1', none of --${RESERVED_OPTIONS.join(', --')}`,
    (value: unknown) => isTextList(value) && value.every(isExtraOption),
  ],
  callback: ['{ host, port, listen }', isCallback],
  host: ['an address', isText],
  ports: ['[from, to], whole numbers from 1 to 65535, from <= to', isPortRange],
  env: ['an object of strings', isEnvironment],
  cwd: PATH_CHECK,
  pollInterval: ['milliseconds from 100 up', isAtLeast(100)],
  adopt: ["'sweep' or 'keep'", (value: unknown) => value === 'sweep' || value === 'keep'],
} as const

export type SlurmSettings = SlurmOptions &
  Required<
    Pick<
      SlurmOptions,
      | 'callback'
      | 'ports'
      | 'env'
      | 'cwd'
      | 'pollInterval'
      | 'adopt'
      | 'drainBefore'
      | 'restVersion'
    >
  >

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseSlurmOptions(options: SlurmOptions): SlurmSettings {
  checkOptions<SlurmOptions>('slurm', options, SLURM_CHECKS)
  const { rest, extra = [], timeLimit, drainBefore } = options
  if (rest && extra.length > 0)
    throw invalidOption('slurm: extra is for the commands, not for rest')
  if (timeLimit && drainBefore && drainBefore >= 60 * timeLimit) {
    throw invalidOption(
      `slurm: drainBefore is below timeLimit, got ${drainBefore} s of ${timeLimit} min`,
    )
  }
  return {
    callback: { host: '127.0.0.1' },
    ports: [20_000, 32_000],
    env: {},
    cwd: process.cwd(),
    pollInterval: 2_000,
    adopt: 'sweep',
    drainBefore: Math.min(60, timeLimit ? 30 * timeLimit : 60),
    restVersion: 'v0.0.38',
    ...options,
  }
}

function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && Number(value) >= 1
}

function isRestUrl(value: unknown): boolean {
  if (typeof value !== 'string') return false
  if (value.startsWith('unix:/')) return true
  return /^https?:\/\//.test(value) && URL.canParse(value) && new URL(value).pathname === '/'
}

function isExtraOption(option: string): boolean {
  const found = /^--([a-z][a-z-]*)(=|$)/.exec(option)
  // sbatch takes the beginning of a long option for the whole of it.
  return (
    found?.[1] !== undefined &&
    !RESERVED_OPTIONS.some((ours) => ours.startsWith(found[1] as string))
  )
}

function isCallback(value: unknown): boolean {
  if (!isRecord(value)) return false
  const { host, port, listen, ...others } = value
  return (
    isText(host) &&
    /^[\w.:-]+$/.test(host) &&
    (port === undefined || port === 0 || isPort(port)) &&
    (listen === undefined || isText(listen)) &&
    Object.keys(others).length === 0
  )
}
