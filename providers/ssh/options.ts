/** Options of `ssh`, checked once, where they are given. */
import { homedir, userInfo } from 'node:os'
import {
  checkOptions,
  formatValue,
  invalidOption,
  isAtLeast,
  isEnvironment,
  isPort,
  isPortRange,
  isRecord,
  isText,
} from '../shared/option-checks.ts'

export interface SshHost {
  readonly host: string
  /** @default 22 */
  readonly port?: number
  /** @default that of the provider */
  readonly user?: string
  /** What its key must be, as `ssh-keygen -l` prints it: `SHA256:...`; the files of known hosts are not asked then. */
  readonly fingerprint?: string
  /** CPUs and bytes of memory that instances may use: load is spread in proportion. @default 1 CPU */
  readonly cpus?: number
  readonly memory?: number
  /** Instances that it may have. @default no limit */
  readonly limit?: number
}

export interface SshOptions {
  /** `user@host:port`, or more of each. */
  readonly hosts: readonly (string | SshHost)[]
  /** @default our own user's name */
  readonly user?: string
  /** File of a private key. @default the usual ones in ~/.ssh, as far as they are there */
  readonly key?: string
  /** Name of the variable of our environment that holds the private key itself. */
  readonly keyEnv?: string
  /** Name of the variable that holds the key's passphrase. */
  readonly passphraseEnv?: string
  /** Socket of an agent, or false for none. @default $SSH_AUTH_SOCK */
  readonly agent?: string | false
  /** Files of host keys; a host that is in none of them is refused. @default ~/.ssh/known_hosts, /etc/ssh/ssh_known_hosts */
  readonly knownHosts?: readonly string[]
  /** Where instances listen on their host; a connection comes by way of ssh. @default '127.0.0.1' */
  readonly listenHost?: string
  /** First and last port of instances, both included. @default [20000, 32000] */
  readonly ports?: readonly [from: number, to: number]
  /** What servers listen on where the service does not say. @default 'tcp' */
  readonly listen?: 'tcp' | 'unix'
  readonly env?: Readonly<Record<string, string>>
  /** Folder that instances run in; a service's own comes first. @default the home of the user there */
  readonly cwd?: string
  /** Milliseconds that it may take to be let in. @default 20000 */
  readonly connectTimeout?: number
  /** Milliseconds without an answer after which a connection is taken as lost, with its instance. @default 30000 */
  readonly keepalive?: number
}

const PATH_CHECK = ['a path', isText] as const
const VARIABLE_CHECK = [
  'the name of a variable',
  (value: unknown) => /^\w+$/.test(String(value)),
] as const

const HOST_CHECKS = {
  host: ['a name or an address', isText],
  port: ['a whole number from 1 to 65535', isPort],
  user: ['a name', isText],
  fingerprint: ["like 'SHA256:...'", isFingerprint],
  cpus: ['a number above 0', (value: unknown) => isAtLeast(0)(value) && value !== 0],
  memory: ['bytes from 1 MiB up', isAtLeast(1_048_576)],
  limit: [
    'a whole number from 1 up',
    (value: unknown) => Number.isSafeInteger(value) && Number(value) > 0,
  ],
} as const

const SSH_CHECKS = {
  hosts: [
    'a list of one or more hosts',
    (value: unknown) => Array.isArray(value) && value.length > 0,
  ],
  user: ['a name', isText],
  key: PATH_CHECK,
  keyEnv: VARIABLE_CHECK,
  passphraseEnv: VARIABLE_CHECK,
  agent: ['a path, or false', (value: unknown) => value === false || isText(value)],
  knownHosts: ['a list of paths', (value: unknown) => Array.isArray(value) && value.every(isText)],
  listenHost: ['an address', isText],
  ports: ['[from, to], whole numbers from 1 to 65535, from <= to', isPortRange],
  listen: ["'tcp' or 'unix'", (value: unknown) => value === 'tcp' || value === 'unix'],
  env: ['an object of strings', isEnvironment],
  cwd: PATH_CHECK,
  connectTimeout: ['milliseconds from 100 up', isAtLeast(100)],
  keepalive: ['milliseconds from 1000 up', isAtLeast(1_000)],
} as const

/** A host with all that is known of it. */
export type SshTarget = SshHost & Required<Pick<SshHost, 'port' | 'user' | 'cpus' | 'limit'>>

export type SshSettings = Omit<SshOptions, 'hosts'> &
  Required<
    Pick<
      SshOptions,
      'knownHosts' | 'listenHost' | 'ports' | 'listen' | 'env' | 'connectTimeout' | 'keepalive'
    >
  > & { readonly hosts: readonly SshTarget[] }

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseSshOptions(options: SshOptions): SshSettings {
  checkOptions<SshOptions>('ssh', options, SSH_CHECKS)
  if (options.hosts === undefined) throw invalidOption('ssh: hosts is missing')
  const user = options.user ?? userInfo().username
  const hosts = options.hosts.map((given, index) => parseHost(given, user, `ssh: hosts[${index}]`))
  const names = hosts.map(hostNameOf)
  const twin = names.find((name, index) => names.indexOf(name) !== index)
  if (twin) throw invalidOption(`ssh: hosts has ${twin} twice`)
  return {
    knownHosts: [`${homedir()}/.ssh/known_hosts`, '/etc/ssh/ssh_known_hosts'],
    listenHost: '127.0.0.1',
    ports: [20_000, 32_000],
    listen: 'tcp',
    env: {},
    connectTimeout: 20_000,
    keepalive: 30_000,
    ...options,
    hosts,
  }
}

export function hostNameOf({ host, port, user }: SshTarget): string {
  return `${user}@${host.includes(':') ? `[${host}]` : host}:${port}`
}

function parseHost(given: unknown, user: string, where: string): SshTarget {
  const host = typeof given === 'string' ? parseHostText(given, where) : given
  if (!isRecord(host))
    throw invalidOption(`${where} must be 'user@host:port' or an object, got ${formatValue(given)}`)
  checkOptions(where, host as unknown as SshHost, HOST_CHECKS)
  if (host.host === undefined) throw invalidOption(`${where}: host is missing`)
  const { cpus = 1, limit = Number.POSITIVE_INFINITY } = host as unknown as SshHost
  return { port: 22, user, ...(host as unknown as SshHost), cpus, limit }
}

function parseHostText(text: string, where: string): SshHost {
  const found = /^(?:([^@\s]+)@)?(?:\[([^\]]+)\]|([^:@\s]+))(?::(\d+))?$/.exec(text)
  if (!found)
    throw invalidOption(`${where} must be like 'user@host:port', got ${formatValue(text)}`)
  const [, user, six, host = six ?? '', port] = found
  return { host, ...(user && { user }), ...(port && { port: Number(port) }) }
}

function isFingerprint(value: unknown): boolean {
  return typeof value === 'string' && /^SHA256:[\w+/]{43}=?$/.test(value)
}
