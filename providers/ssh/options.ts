/** The options of `ssh`, with their rules. */
import { homedir, userInfo } from 'node:os'
import { describe } from '../../src/core/describe.ts'
import {
  checkOptions,
  oneOf,
  type ParsedOptions,
  parseOptions,
  record,
  rule,
  text,
} from '../../src/core/options.ts'
import {
  atLeastRule,
  countRule,
  invalidOption,
  isLine,
  isRecord,
  lineRule,
  PORTS_RULE,
  portRule,
} from '../shared/option-rules.ts'

export interface SshHost {
  readonly host: string
  /** @default 22 */
  readonly port?: number
  /** @default the user of the provider */
  readonly user?: string
  /** Fingerprint of the host's key, as `ssh-keygen -l` prints it: `SHA256:...`. Then `knownHosts` is not used for it. */
  readonly fingerprint?: string
  /** CPUs that instances may use: load is spread in proportion. @default 1 */
  readonly cpus?: number
  /** Bytes of memory that instances may use together. @default no limit */
  readonly memory?: number
  /** Maximum number of instances on this host. @default no limit */
  readonly limit?: number
}

export interface SshOptions {
  /** `user@host:port`, or an object that says more about a host. */
  readonly hosts: readonly (string | SshHost)[]
  /** User to log in as. @default the user of this process */
  readonly user?: string
  /** File of a private key. @default id_ed25519, id_ecdsa or id_rsa in ~/.ssh */
  readonly key?: string
  /** Name of the variable of our environment that holds the private key itself. */
  readonly keyEnv?: string
  /** Name of the variable that holds the key's passphrase. */
  readonly passphraseEnv?: string
  /** Socket of an agent, or false for none. @default $SSH_AUTH_SOCK */
  readonly agent?: string | false
  /** Files of host keys. A host that is in none of them is refused. @default ~/.ssh/known_hosts, /etc/ssh/ssh_known_hosts */
  readonly knownHosts?: readonly string[]
  /** Address that instances listen on. Connections come through ssh. @default '127.0.0.1' */
  readonly listenHost?: string
  /** First and last port of instances, both included. @default [20000, 32000] */
  readonly ports?: readonly [from: number, to: number]
  /** What servers listen on, if their service does not say. @default 'tcp' */
  readonly listen?: 'tcp' | 'unix'
  /** Environment of all instances. A variable of the service replaces one of these. */
  readonly env?: Readonly<Record<string, string>>
  /** Folder that instances run in, if their service names none. @default the home folder of the user on the host */
  readonly cwd?: string
  /** Longest time to connect and log in, in ms. @default 20000 */
  readonly connectTimeout?: number
  /** A connection is lost, with its instance, after this many milliseconds without an answer. @default 30000 */
  readonly keepalive?: number
}

const PATH_RULE = lineRule('a path')
const NAME_RULE = lineRule('a name')
const VARIABLE_RULE = text('the name of a variable', (value) => /^\w+$/.test(value))

const HOST_RULES = {
  host: lineRule('a name or an address'),
  port: portRule(),
  user: NAME_RULE,
  fingerprint: text("like 'SHA256:...'", (value) => /^SHA256:[\w+/]{43}=?$/.test(value)),
  cpus: rule<number>('a number above 0', undefined, (value) =>
    typeof value === 'number' && Number.isFinite(value) && value > 0 ? value : undefined,
  ),
  memory: atLeastRule('bytes', 1_048_576),
  limit: countRule(),
} as const

/** Every option with its range and default. */
const SSH_RULES = {
  hosts: rule<readonly unknown[]>('a list of one or more hosts', undefined, (value) =>
    Array.isArray(value) && value.length > 0 ? value : undefined,
  ),
  user: NAME_RULE,
  key: PATH_RULE,
  keyEnv: VARIABLE_RULE,
  passphraseEnv: VARIABLE_RULE,
  agent: rule<string | false>('a path, or false', undefined, (value) =>
    value === false || isLine(value) ? value : undefined,
  ),
  knownHosts: rule<readonly string[]>('a list of paths', undefined, (value) =>
    Array.isArray(value) && value.every(isLine) ? value : undefined,
  ),
  listenHost: lineRule('an address', '127.0.0.1'),
  ports: PORTS_RULE,
  listen: oneOf(['tcp', 'unix'], 'tcp'),
  env: record(),
  cwd: PATH_RULE,
  connectTimeout: atLeastRule('milliseconds', 100, 20_000),
  keepalive: atLeastRule('milliseconds', 1_000, 30_000),
} as const

/** A host, with the defaults filled in. */
export type SshTarget = SshHost & Required<Pick<SshHost, 'port' | 'user' | 'cpus' | 'limit'>>

export type SshSettings = Omit<ParsedOptions<typeof SSH_RULES>, 'hosts'> &
  Pick<SshOptions, 'agent' | 'cwd' | 'key' | 'keyEnv' | 'passphraseEnv'> & {
    readonly hosts: readonly SshTarget[]
  }

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseSshOptions(options: SshOptions): SshSettings {
  const settings = parseOptions('ssh', options, SSH_RULES)
  if (settings.hosts === undefined) {
    throw invalidOption("ssh: hosts is missing: a list like ['user@host:port']")
  }
  const user = settings.user ?? userInfo().username
  const hosts = settings.hosts.map((given, index) => parseHost(given, user, `ssh: hosts[${index}]`))
  const names = hosts.map(hostNameOf)
  const twin = names.find((name, index) => names.indexOf(name) !== index)
  if (twin) throw invalidOption(`ssh: hosts names ${twin} twice`)
  return {
    ...settings,
    knownHosts: settings.knownHosts ?? [
      `${homedir()}/.ssh/known_hosts`,
      '/etc/ssh/ssh_known_hosts',
    ],
    hosts,
  }
}

export function hostNameOf({ host, port, user }: SshTarget): string {
  return `${user}@${host.includes(':') ? `[${host}]` : host}:${port}`
}

function parseHost(given: unknown, user: string, where: string): SshTarget {
  const host = typeof given === 'string' ? parseHostText(given, where) : given
  if (!isRecord(host))
    throw invalidOption(`${where} must be 'user@host:port' or an object, got ${describe(given)}`)
  checkOptions(where, host, HOST_RULES)
  if (host.host === undefined) throw invalidOption(`${where}: host is missing`)
  const { cpus = 1, limit = Number.POSITIVE_INFINITY } = host as unknown as SshHost
  return { port: 22, user, ...(host as unknown as SshHost), cpus, limit }
}

function parseHostText(text: string, where: string): SshHost {
  const found = /^(?:([^@\s]+)@)?(?:\[([^\]]+)\]|([^:@\s]+))(?::(\d+))?$/.exec(text)
  if (!found) throw invalidOption(`${where} must be like 'user@host:port', got ${describe(text)}`)
  const [, user, six, host = six ?? '', port] = found
  return { host, ...(user && { user }), ...(port && { port: Number(port) }) }
}
