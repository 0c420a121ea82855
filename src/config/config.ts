/** A fleet file, read and checked: all of it, or an error with every mistake. */
import { resolve } from 'node:path'
import { describe } from '../core/errors.ts'
import { type Parsed, parseOptions, type Rules } from '../core/options.ts'
import { isLocal, type Listen } from './listen.ts'
import { type ProviderConfig, Providers, type ProviderTypes } from './providers.ts'
import { entry, join, readFields } from './read.ts'
import { type ConfigSource, type Env, Reader } from './reader.ts'
import {
  ADMIN_RULES,
  FEED_RULES,
  type FeedConfig,
  type FORMATS,
  GATEWAY_RULES,
  type LEVELS,
  type Limits,
  LOG_RULES,
  SESSION_FILE_RULES,
  type TlsFiles,
} from './rules.ts'
import { readServices, type ServiceConfig } from './services.ts'
import { plainFile } from './substitute.ts'
import type { Tree } from './tree.ts'

export interface Config {
  /** Absolute path of the file; undefined for a text without one. */
  readonly file: string | undefined
  readonly services: readonly ServiceConfig[]
  /** Those that are defined, and types that a service names directly. */
  readonly providers: Readonly<Record<string, ProviderConfig>>
  readonly session: {
    /** Name of the provider of services that name none; `processes()` if undefined. */
    readonly provider: string | undefined
    readonly tickInterval: number
    readonly budget: { readonly instances: number } | undefined
  }
  readonly gateway: GatewayConfig
  readonly admin: AdminConfig | false
  /** Undefined: there is none. */
  readonly feed: FeedConfig | undefined
  readonly log: {
    readonly level: (typeof LEVELS)[number]
    readonly format: (typeof FORMATS)[number]
  }
}

export interface GatewayConfig {
  readonly listen: readonly Listen[]
  /** Absolute paths; the files were there. */
  readonly tls: TlsFiles | undefined
  readonly http2: boolean
  readonly trustedProxies: readonly string[]
  readonly limits: Limits
  readonly forwarded: boolean
  readonly pathRouting: boolean
}

export interface AdminConfig {
  readonly listen: readonly Listen[]
  readonly token: string | undefined
}

export interface LoadOptions {
  /** What a file may say of providers, by type; without it their options are not checked. */
  readonly providers?: ProviderTypes
}

/**
 * Reads a fleet file: the path of one, or its text.
 * @throws ConfigError (MANYHOST_INVALID_OPTION) with all that is wrong, each with its place
 */
export function loadConfig(
  source: ConfigSource,
  env: Env = process.env,
  { providers: types }: LoadOptions = {},
): Config {
  const reader = new Reader(source, env)
  return reader.run((tree) => readConfig(reader, tree, types))
}

/** Keys of the file itself. Those that begin with `x-` are the user's own, for anchors. */
export const SECTIONS = [
  'services',
  'providers',
  'session',
  'gateway',
  'admin',
  'feed',
  'log',
] as const

type Section = (typeof SECTIONS)[number]

function readConfig(reader: Reader, tree: Tree, types: ProviderTypes | undefined): Config {
  const nodes: Partial<Record<Section, Tree>> = {}
  const others = Object.fromEntries(
    SECTIONS.map((name) => [
      name,
      (node: Tree) => {
        nodes[name] = node
      },
    ]),
  )
  const readable = readFields(reader, tree, {}, '', {
    others,
    required: ['services'],
    ignored: (name) => name.startsWith('x-'),
  })
  const providers = new Providers(types)
  // First: services name them.
  if (nodes.providers) providers.read(reader, nodes.providers)
  const session = section(reader, nodes.session, SESSION_FILE_RULES, 'session')
  checkDefault(reader, nodes.session, session.provider, providers)
  const services = readable && nodes.services ? readServices(reader, nodes.services, providers) : []
  return {
    file: reader.path,
    services,
    providers: providers.all,
    session: {
      provider: session.provider,
      tickInterval: session.tickInterval,
      budget: session.budget,
    },
    gateway: readGateway(reader, nodes.gateway),
    admin: readAdmin(reader, nodes.admin),
    feed: nodes.feed && section(reader, nodes.feed, FEED_RULES, 'feed'),
    log: section(reader, nodes.log, LOG_RULES, 'log'),
  }
}

/** A section with its defaults; these alone where something is wrong, which was reported. */
function section<R extends Rules>(
  reader: Reader,
  node: Tree | undefined,
  rules: R,
  path: string,
): Parsed<R> {
  const before = reader.failures
  const given = node && readFields(reader, node, rules, path)
  return parseOptions(path, reader.failures > before ? {} : given, rules)
}

function checkDefault(
  reader: Reader,
  node: Tree | undefined,
  name: string | undefined,
  providers: Providers,
): void {
  if (!node || name === undefined || providers.find(name)) return
  const path = 'session.provider'
  const message = `${path} must be a name of providers (${providers.names.join(', ') || 'none'})`
  reader.fail(entry(node, 'provider') ?? node, path, message)
}

function readGateway(reader: Reader, node: Tree | undefined): GatewayConfig {
  const gateway = section(reader, node, GATEWAY_RULES, 'gateway')
  if (!gateway.tls || !node) return gateway
  const at = entry(node, 'tls') ?? node
  const { cert, key } = gateway.tls
  const tls = { cert: file(reader, at, 'cert', cert), key: file(reader, at, 'key', key) }
  return { ...gateway, tls }
}

/** The absolute path of a file that must be there. */
function file(reader: Reader, parent: Tree, name: string, given: string): string {
  const path = resolve(reader.folder, given)
  const at = join('gateway.tls', name)
  const node = entry(parent, name) ?? parent
  try {
    plainFile(path)
  } catch (error) {
    reader.fail(node, at, `${at}: ${reader.quoted(`the file cannot be read: ${describe(error)}`)}`)
  }
  return path
}

function readAdmin(reader: Reader, node: Tree | undefined): AdminConfig | false {
  if (node?.kind === 'scalar' && node.value === false) return false
  const admin = section(reader, node, ADMIN_RULES, 'admin')
  const open = admin.listen.find((listen) => !isLocal(listen))
  if (node && open && admin.token === undefined && entry(node, 'token') === undefined) {
    const at = entry(node, 'listen') ?? node
    const message = 'admin.token is missing: others than this machine can reach admin.listen'
    reader.fail(at, 'admin.token', message)
  }
  return admin
}
