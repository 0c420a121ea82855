/** Reads and checks a fleet file. The result is the whole configuration, or an error with every mistake. */
import { resolve } from 'node:path'
import { describeError } from '../core/errors.ts'
import type { ListenAddress } from '../core/listen-address.ts'
import { type ParsedOptions, parseOptions, type Rules } from '../core/options.ts'
import { ADMIN_RULES, needsToken } from '../gateway/admin/options.ts'
import type { GatewayTls } from '../gateway/options.ts'
import { ConfigProviders, type ProviderConfig, type ProviderTypes } from './providers.ts'
import { getEntry, joinPath, readFields } from './read-fields.ts'
import { type ConfigEnv, ConfigReader, type ConfigSource } from './reader.ts'
import {
  FEED_FILE_RULES,
  type FeedConfig,
  GATEWAY_FILE_RULES,
  type GatewayLimits,
  type LOG_FORMATS,
  type LOG_LEVELS,
  LOG_RULES,
  SESSION_FILE_RULES,
} from './rules.ts'
import { readServices, type ServiceConfig } from './services.ts'
import { statRegularFile } from './substitute.ts'
import type { YamlTree } from './yaml-tree.ts'

export interface Config {
  /** Absolute path of the file; undefined for a text without a path. */
  readonly file: string | undefined
  readonly services: readonly ServiceConfig[]
  /** The providers that the file defines, and the provider types that services name directly. */
  readonly providers: Readonly<Record<string, ProviderConfig>>
  readonly session: {
    /** Name of the provider of services that name none; undefined: `processes()`. */
    readonly provider: string | undefined
    readonly tickInterval: number
    readonly budget: { readonly instances: number } | undefined
  }
  readonly gateway: GatewayConfig
  readonly admin: AdminConfig | false
  /** Undefined: no feed. */
  readonly feed: FeedConfig | undefined
  readonly log: {
    readonly level: (typeof LOG_LEVELS)[number]
    readonly format: (typeof LOG_FORMATS)[number]
  }
}

export interface GatewayConfig {
  readonly listen: readonly ListenAddress[]
  /** Absolute paths of files that exist. */
  readonly tls: GatewayTls | undefined
  readonly http2: boolean
  readonly trustedProxies: readonly string[]
  readonly limits: GatewayLimits
  readonly forwarded: boolean
  readonly pathRouting: boolean
}

export interface AdminConfig {
  readonly listen: readonly ListenAddress[]
  readonly token: string | undefined
}

export interface LoadConfigOptions {
  /** Rules for the options of providers, by type. Without them, these options are not checked. */
  readonly providers?: ProviderTypes
}

/**
 * Reads a fleet file, given by its path or as text.
 * @throws ConfigError (MANYHOST_INVALID_OPTION) with every mistake and its line and column
 */
export function loadConfig(
  source: ConfigSource,
  env: ConfigEnv = process.env,
  { providers: types }: LoadConfigOptions = {},
): Config {
  const reader = new ConfigReader(source, env)
  return reader.run((tree) => readConfig(reader, tree, types))
}

/** The top-level keys. Keys that begin with `x-` are left to users, for anchors. */
export const SECTION_NAMES = [
  'services',
  'providers',
  'session',
  'gateway',
  'admin',
  'feed',
  'log',
] as const

type SectionName = (typeof SECTION_NAMES)[number]

function readConfig(
  reader: ConfigReader,
  tree: YamlTree,
  types: ProviderTypes | undefined,
): Config {
  const nodes: Partial<Record<SectionName, YamlTree>> = {}
  const others = Object.fromEntries(
    SECTION_NAMES.map((name) => [
      name,
      (node: YamlTree) => {
        nodes[name] = node
      },
    ]),
  )
  const readable = readFields(reader, tree, {}, '', {
    readers: others,
    required: ['services'],
    isIgnored: (name) => name.startsWith('x-'),
  })
  const providers = new ConfigProviders(types)
  // Providers first, because services name them.
  if (nodes.providers) providers.read(reader, nodes.providers)
  const session = readSection(reader, nodes.session, SESSION_FILE_RULES, 'session')
  checkDefaultProvider(reader, nodes.session, session.provider, providers)
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
    feed: nodes.feed && readSection(reader, nodes.feed, FEED_FILE_RULES, 'feed'),
    log: readSection(reader, nodes.log, LOG_RULES, 'log'),
  }
}

/** A section with its defaults. Only the defaults if something is wrong, which was reported. */
function readSection<R extends Rules>(
  reader: ConfigReader,
  node: YamlTree | undefined,
  rules: R,
  path: string,
): ParsedOptions<R> {
  const before = reader.problemCount
  const given = node && readFields(reader, node, rules, path)
  return parseOptions(path, reader.problemCount > before ? {} : given, rules)
}

function checkDefaultProvider(
  reader: ConfigReader,
  node: YamlTree | undefined,
  name: string | undefined,
  providers: ConfigProviders,
): void {
  if (!node || name === undefined || providers.find(name)) return
  const path = 'session.provider'
  const message = `${path} must be a name of providers (${providers.names.join(', ') || 'none'})`
  reader.reportProblem(getEntry(node, 'provider') ?? node, path, message)
}

function readGateway(reader: ConfigReader, node: YamlTree | undefined): GatewayConfig {
  const gateway = readSection(reader, node, GATEWAY_FILE_RULES, 'gateway')
  if (!gateway.tls || !node) return gateway
  const at = getEntry(node, 'tls') ?? node
  const { cert, key } = gateway.tls
  const tls = {
    cert: requireFile(reader, at, 'cert', cert),
    key: requireFile(reader, at, 'key', key),
  }
  return { ...gateway, tls }
}

/** The absolute path of a file that must exist. */
function requireFile(reader: ConfigReader, parent: YamlTree, name: string, given: string): string {
  const path = resolve(reader.folder, given)
  const at = joinPath('gateway.tls', name)
  const node = getEntry(parent, name) ?? parent
  try {
    statRegularFile(path)
  } catch (error) {
    reader.reportProblem(
      node,
      at,
      `${at}: ${reader.redact(`the file cannot be read: ${describeError(error)}`)}`,
    )
  }
  return path
}

function readAdmin(reader: ConfigReader, node: YamlTree | undefined): AdminConfig | false {
  if (node?.kind === 'scalar' && node.value === false) return false
  const admin = readSection(reader, node, ADMIN_RULES, 'admin')
  // A token that is there and wrong was reported already.
  if (node && needsToken(admin) && getEntry(node, 'token') === undefined) {
    const at = getEntry(node, 'listen') ?? node
    const message = 'admin.token is missing: other machines can connect to admin.listen'
    reader.reportProblem(at, 'admin.token', message)
  }
  return admin
}
