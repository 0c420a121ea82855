/** Options of `agents` and of `runAgent`, checked once, where they are given. */
import type { TlsOptions } from 'node:tls'
import type { Registry } from 'prom-client'
import {
  isLoopback,
  milliseconds,
  type ParsedOptions,
  parseOptions,
  type Rule,
  record,
  rule,
  text,
  whole,
} from '../../src/core/options.ts'
import type { Provider } from '../../src/core/provider.ts'
import { listenerRule } from '../../src/core/user-functions.ts'
import type { WireKey } from '../../src/wire/index.ts'

export interface AgentsOptions {
  /** `host:port` or `unix:/path` that agents dial; port 0: any. @default '127.0.0.1:4747' */
  readonly listen?: string
  /** Secret that agents must prove to have, of 16 bytes or more, or what finds the one of an agent by its name. */
  readonly key?: WireKey
  /** File with that secret, in place of `key`; white space around it does not count. */
  readonly keyFile?: string
  /** Encrypts: options of Node's `tls.createServer()`, with `key` and `cert`. */
  readonly tls?: TlsOptions
  /** PEM files with the certificate and its private key, in place of `tls`. */
  readonly certFile?: string
  readonly certKeyFile?: string
  /** Whether to listen without TLS on more than this machine: then anybody between can read and change all. @default false */
  readonly insecure?: boolean
  /** Milliseconds between an agent's signs of life. @default 5000 */
  readonly beat?: number
  /** Milliseconds of silence after which an agent is evicted, and ends its instances by itself. @default 15000 */
  readonly evictAfter?: number
  /** Milliseconds that an agent whose connection was cut has to return with its instances; 0: none. @default 5000 */
  readonly returnWithin?: number
  /** Milliseconds for a new connection to an instance. @default 10000 */
  readonly tunnelTimeout?: number
  /** Agents at a time; more are refused. @default 2000 */
  readonly maxAgents?: number
  /** Connections at a time that have not become an agent's or a lane yet; more are closed at once. @default 500 */
  readonly maxGreeting?: number
  /** Where `manyhost_agent_*` metrics are registered. */
  readonly registry?: Registry
}

export interface AgentOptions {
  /** Instances at a time. @default the number of processors */
  readonly maxInstances?: number
  /** `host:port` or `unix:/path` of the hub. @default '127.0.0.1:4747' */
  readonly address?: string
  /** The hub's key, of 16 bytes or more. */
  readonly key: string | Uint8Array
  /** Milliseconds without an instance after which it ends; 0: never. @default 0 */
  readonly timeout?: number
  /** Milliseconds without a hub after which it ends, whatever it runs; 0: never, hubs start again. @default 0 */
  readonly hubTimeout?: number
  /** What the hub knows it by. @default the machine's name */
  readonly name?: string
  /** What services may require: `require.gpu: a100` finds `gpu: a100`. */
  readonly labels?: Readonly<Record<string, string>>
  /** Processors to give away. @default the machine's */
  readonly cpus?: number
  /** Bytes of memory to give away. @default the machine's */
  readonly memory?: number
  /** What runs the instances here. @default processes() */
  readonly provider?: Provider
  /** Encrypts: `true` for a certificate of a known authority, else who signed it, or its SHA-256. */
  readonly tls?: true | { readonly ca?: string | Uint8Array; readonly fingerprint?: string }
  /** Whether to dial another machine without TLS. @default false */
  readonly insecure?: boolean
  /** Milliseconds that instances have to be drained when it is told to end. @default 30000 */
  readonly drainTimeout?: number
  /** Most milliseconds between two attempts to connect. @default 30000 */
  readonly maxDelay?: number
  /** Aborted: it takes nothing more, lets the hub drain what it has, and ends. */
  readonly signal?: AbortSignal
  /** Told what happens, for a log. */
  readonly onEvent?: (event: AgentNotice) => void
}

export interface AgentNotice {
  readonly what: 'connected' | 'lost' | 'draining' | 'stopped' | 'started' | 'ended' | 'ending'
  readonly detail: string
}

const flagRule = (initial: boolean): Rule<boolean> =>
  rule<boolean>(
    'true or false',
    initial,
    (value) => (typeof value === 'boolean' ? value : undefined),
    { is: 'flag' },
  )

const objectRule = <T>(range: string): Rule<T> =>
  rule<T>(range, undefined, (value) =>
    typeof value === 'object' && value !== null ? (value as T) : undefined,
  )

const isSecret = (value: unknown): boolean =>
  (typeof value === 'string' || value instanceof Uint8Array) && Buffer.byteLength(value) >= 16

const isPath = (value: string): boolean => value !== ''
const isName = (value: string): boolean => value !== '' && value.length <= 128

const positiveRule = (range: string): Rule<number> =>
  rule<number>(
    range,
    undefined,
    (value) => (typeof value === 'number' && value > 0 ? value : undefined),
    { is: 'number', min: 0, exclusiveMin: true },
  )

const addressRule = (initial: string): Rule<string> => ({
  ...text('host:port or unix:/path', (value) => /^unix:.+|^.*:\d{1,5}$/.test(value)),
  initial,
})

/** Every option with its range and default; docs/agents.md is held against this one by a test. */
export const AGENTS_RULES = {
  listen: addressRule('127.0.0.1:4747'),
  key: rule<WireKey>('16 bytes or more, or a function that finds them', undefined, (value) =>
    typeof value === 'function' || isSecret(value) ? (value as WireKey) : undefined,
  ),
  keyFile: text('the path of a file', isPath),
  tls: objectRule<TlsOptions>('options of tls.createServer()'),
  certFile: text('the path of a file', isPath),
  certKeyFile: text('the path of a file', isPath),
  insecure: flagRule(false),
  beat: milliseconds(5_000),
  evictAfter: milliseconds(15_000),
  returnWithin: milliseconds(5_000, 'evicted at once'),
  tunnelTimeout: milliseconds(10_000),
  maxAgents: whole(1, 2_000),
  maxGreeting: whole(1, 500),
  registry: objectRule<Registry>('a Registry of prom-client'),
}

export const AGENT_RULES = {
  maxInstances: whole(1, 1, { unlimited: false }),
  address: addressRule('127.0.0.1:4747'),
  key: rule<string | Uint8Array>('16 bytes or more', undefined, (value) =>
    isSecret(value) ? (value as string) : undefined,
  ),
  timeout: milliseconds(0, 'never'),
  hubTimeout: milliseconds(0, 'never'),
  name: text('a string of 1 to 128 characters', isName),
  labels: record(),
  cpus: positiveRule('a number above 0'),
  memory: positiveRule('bytes above 0'),
  provider: objectRule<Provider>('a provider'),
  tls: rule<true | { ca?: string | Uint8Array; fingerprint?: string }>(
    'true, or { ca, fingerprint }',
    undefined,
    (value) =>
      value === true || (typeof value === 'object' && value !== null) ? (value as true) : undefined,
  ),
  insecure: flagRule(false),
  drainTimeout: milliseconds(30_000),
  maxDelay: milliseconds(30_000),
  signal: objectRule<AbortSignal>('an AbortSignal'),
  onEvent: listenerRule<[event: AgentNotice]>('a function', 'onEvent of runAgent'),
}

export type AgentsSettings = ParsedOptions<typeof AGENTS_RULES>
export type AgentSettings = ParsedOptions<typeof AGENT_RULES>

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseAgentsOptions(options: AgentsOptions): AgentsSettings {
  return parseOptions('agents', options, AGENTS_RULES)
}

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseAgentOptions(options: AgentOptions): AgentSettings {
  return parseOptions('runAgent', options, AGENT_RULES)
}

/** Whether only this machine can be meant. */
export function isLocalAddress(address: string): boolean {
  if (address.startsWith('unix:')) return true
  const host = address.replace(/:\d+$/, '')
  return host === '' || isLoopback(host)
}
