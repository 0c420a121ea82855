/** Options of `docker` and `podman`, checked once, where they are given. */
import { isAbsolute } from 'node:path'
import {
  nested,
  oneOf,
  type ParsedOptions,
  parseOptions,
  record,
  rule,
  text,
  whole,
} from '../../src/core/options.ts'
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
  /** Image of services that name none. */
  readonly image?: string
  /** When an image is fetched: when it is missing, before each start, or never. @default 'missing' */
  readonly pull?: 'missing' | 'always' | 'never'
  /** For images in a registry that asks who you are. */
  readonly auth?: { readonly username: string; readonly password: string; readonly server?: string }
  /**
   * `bridge` or another network of the engine: the port is published; `host`: the server listens on the host's own.
   * @default 'bridge'
   */
  readonly network?: string
  /** What the server is to listen on within its container, but for `network: 'host'`. @default 8080 */
  readonly port?: number
  /** Address of the engine's host that ports are published on. @default '127.0.0.1', of a remote engine '0.0.0.0' */
  readonly publish?: string
  /** First and last port for `network: 'host'`. @default [20000, 32000] */
  readonly ports?: PortRange
  /** Environment of all instances; a service's own comes on top. */
  readonly env?: Readonly<Record<string, string>>
  /** `/here:/there` or `/here:/there:ro`, or the name of a volume in place of `/here`. */
  readonly mounts?: readonly string[]
  /** Folder that instances run in. @default that of the image */
  readonly cwd?: string
  /** Who instances run as. @default that of the image */
  readonly user?: string
  /** Whether a command takes the place of the image's entrypoint, or is given to it. @default 'replace' */
  readonly entrypoint?: 'replace' | 'keep'
  /** What keeps a container alive for a startup function; it must not end, nor mind SIGTERM. */
  readonly idle?: readonly string[]
  /** What becomes of containers that a session left when it was killed. @default 'sweep' */
  readonly adopt?: 'sweep' | 'keep'
  /**
   * A name for this program, where one at a time runs, on whatever machine: then all that an earlier one left is swept.
   * @default the process: only what dead processes of this machine left is swept
   */
  readonly owner?: string
  /** Goes into the body of the engine's `containers/create`, over what is there; `HostConfig` is merged. */
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

const isPort = (value: unknown): boolean =>
  Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65_535

const NAME_RULE = text('a name', (value) => value !== '')
const SECRET_RULE = { ...NAME_RULE, form: { is: 'text', secret: true } } as const

/** A shell that reads from an input that never comes: it needs no more of an image than `ctx.run('sh', ...)` does. */
const DEFAULT_IDLE_COMMAND = ['sh', '-c', 'read _']

/** Every option with its range and default; docs/docker.md is held against this one by a test. */
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
  port: rule('a port', 8_080, (value) => (isPort(value) ? (value as number) : undefined), {
    is: 'number',
    min: 1,
    max: 65_535,
    whole: true,
  }),
  publish: text('an address', (value) => value !== ''),
  ports: rule<PortRange>(
    '[from, to], whole numbers from 1 to 65535, from <= to',
    [20_000, 32_000],
    (value) =>
      Array.isArray(value) && value.length === 2 && value.every(isPort) && value[0] <= value[1]
        ? (value as unknown as PortRange)
        : undefined,
    { is: 'list', of: whole(1, 1), minItems: 2 },
  ),
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
  adopt: oneOf(['sweep', 'keep'], 'sweep'),
  owner: text('letters, digits and -_. only', (value) => /^[\w.-]{1,100}$/.test(value)),
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
