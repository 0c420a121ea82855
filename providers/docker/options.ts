/** The options of `docker` and `podman`, with their rules. */
import { isAbsolute } from 'node:path'
import {
  nested,
  oneOf,
  type ParsedOptions,
  parseOptions,
  record,
  rule,
  text,
} from '../../src/core/options.ts'
import { ADOPT_RULE, OWNER_RULE, PORTS_RULE, portRule } from '../shared/option-rules.ts'
import type { PortRange } from '../shared/ports.ts'
import { isDockerAddress } from './address.ts'

export interface DockerOptions {
  /**
   * Engines to run on, each `unix:///path`, `tcp://host:port` or `https://host:port`; instances are spread by load.
   * @default DOCKER_HOST, or the socket where the engine usually is
   */
  readonly hosts?: readonly string[]
  /** Folder with `ca.pem`, `cert.pem` and `key.pem` for engines behind TLS. @default DOCKER_CERT_PATH */
  readonly certs?: string
  /** Image of the services that name none. */
  readonly image?: string
  /** When an image is fetched: when it is missing, before each start, or never. @default 'missing' */
  readonly pull?: 'missing' | 'always' | 'never'
  /** User and password for a registry that asks for them. */
  readonly auth?: { readonly username: string; readonly password: string; readonly server?: string }
  /**
   * `bridge`, or another network of the engine: the port is published. `host`: the server listens on the host's network.
   * @default 'bridge'
   */
  readonly network?: string
  /** Port that the server listens on in its container; not used with `network: 'host'`. @default 8080 */
  readonly port?: number
  /** Address of the engine's host that ports are published on. @default '127.0.0.1'; '0.0.0.0' for a remote engine */
  readonly publish?: string
  /** First and last port for `network: 'host'`. @default [20000, 32000] */
  readonly ports?: PortRange
  /** Environment of all instances. A variable of the service replaces one of these. */
  readonly env?: Readonly<Record<string, string>>
  /** `/here:/there` or `/here:/there:ro`; the name of a volume may take the place of `/here`. */
  readonly mounts?: readonly string[]
  /** Folder that instances run in. @default the folder of the image */
  readonly cwd?: string
  /** User that instances run as. @default the user of the image */
  readonly user?: string
  /** Whether a command replaces the entrypoint of the image, or is given to it as arguments. @default 'replace' */
  readonly entrypoint?: 'replace' | 'keep'
  /** Command that keeps a container alive for a startup function. It must not end by itself, and must ignore SIGTERM. */
  readonly idle?: readonly string[]
  /** Whether the containers that a killed session left are removed at the first start. @default 'sweep' */
  readonly adopt?: 'sweep' | 'keep'
  /**
   * A name for this program, if it runs only once at a time, on any machine. Then all that an earlier run left is removed.
   * @default the process: only what dead processes of this machine left is removed
   */
  readonly owner?: string
  /** Merged into the body of `containers/create` of the engine, and replaces what is there. */
  readonly create?: Readonly<Record<string, unknown>>
}

const listRule = (range: string, fits: (value: string) => boolean) =>
  rule<readonly string[]>(
    range,
    undefined,
    (value) =>
      Array.isArray(value) &&
      value.length > 0 &&
      value.every((one) => typeof one === 'string' && fits(one))
        ? [...value]
        : undefined,
    { is: 'list', of: text('a string'), minItems: 1 },
  )

const NAME_RULE = text('a name', (value) => value !== '')
const SECRET_RULE = { ...NAME_RULE, form: { is: 'text', secret: true } } as const

/** A shell that reads from an input that never comes. An image that can do `ctx.run('sh', ...)` can do this as well. */
const DEFAULT_IDLE_COMMAND = ['sh', '-c', 'read _']

/** Every option with its range and default. A test compares docs/docker.md with this table. */
export const DOCKER_RULES = {
  hosts: listRule('a list of unix:///path, tcp://host:port or https://host:port', isDockerAddress),
  certs: text('the path of a folder', (value) => value !== ''),
  image: text('a name of an image', (value) => value !== '' && !value.startsWith('-')),
  pull: oneOf(['missing', 'always', 'never'], 'missing'),
  auth: nested<NonNullable<DockerOptions['auth']>>(
    '{ username, password, server }',
    { username: NAME_RULE, password: SECRET_RULE, server: NAME_RULE },
    ['username', 'password'],
  ),
  network: { ...NAME_RULE, range: "'bridge', 'host' or the name of a network", initial: 'bridge' },
  port: portRule(8_080),
  publish: text('an address', (value) => value !== ''),
  ports: PORTS_RULE,
  env: record(),
  mounts: listRule("a list of '/here:/there', with ':ro' for read-only", (value) =>
    /^[^:]+:\/[^:]*(:[\w,]+)?$/.test(value),
  ),
  cwd: text('an absolute path', isAbsolute),
  user: NAME_RULE,
  entrypoint: oneOf(['replace', 'keep'], 'replace'),
  idle: {
    ...listRule('a command as a list of strings', () => true),
    initial: DEFAULT_IDLE_COMMAND,
  },
  adopt: ADOPT_RULE,
  owner: OWNER_RULE,
  create: rule<Readonly<Record<string, unknown>>>('an object', {}, (value) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined,
  ),
} as const

export type DockerSettings = ParsedOptions<typeof DOCKER_RULES>

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseDockerOptions(name: string, options: DockerOptions): DockerSettings {
  return parseOptions(name, options, DOCKER_RULES)
}
