/** Options of `agents` and of `runAgent`, with their ranges and defaults. */
import type { TlsOptions } from 'node:tls'
import type { Registry } from 'prom-client'
import { isLoopbackAddress, parseListenAddress } from '../../src/core/listen-address.ts'
import {
  flag,
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
  /** Address at which agents dial: `host:port` or `unix:/path`. With port 0 the system chooses one. @default '127.0.0.1:4747' */
  readonly listen?: string
  /** Secret of 16 bytes or more that agents must prove to have; or a function that finds the secret of an agent by its name. */
  readonly key?: WireKey
  /** File with the secret, instead of `key`. White space around the secret is removed. */
  readonly keyFile?: string
  /** Encrypts. Options of Node's `tls.createServer()`, with `key` and `cert`. */
  readonly tls?: TlsOptions
  /** PEM file with the certificate, instead of `tls`. Needs `certKeyFile`. */
  readonly certFile?: string
  /** PEM file with the private key of `certFile`. */
  readonly certKeyFile?: string
  /**
   * Whether the hub may listen without TLS where other machines can connect. Then every machine in between can read and
   * change all messages. @default false
   */
  readonly insecure?: boolean
  /** Milliseconds between two heartbeats of an agent. @default 5000 */
  readonly beat?: number
  /** Milliseconds of silence after which an agent is evicted. The agent ends its instances by itself by then. @default 15000 */
  readonly evictAfter?: number
  /** Milliseconds that an agent has to return when its link was cut; 0: it is evicted at once. @default 5000 */
  readonly returnWithin?: number
  /** Milliseconds for opening a tunnel, which is a connection to an instance. @default 10000 */
  readonly tunnelTimeout?: number
  /** Agents at a time. More are refused. @default 2000 */
  readonly maxAgents?: number
  /** Connections at a time whose handshake has not ended. More are closed at once. @default 500 */
  readonly maxGreeting?: number
  /** Registry of prom-client that gets the metrics `manyhost_agent_*`. */
  readonly registry?: Registry
}

export interface AgentOptions {
  /** Instances at a time. @default the number of processors */
  readonly maxInstances?: number
  /** Address of the hub: `host:port` or `unix:/path`. @default '127.0.0.1:4747' */
  readonly address?: string
  /** The key of the hub, of 16 bytes or more. */
  readonly key: string | Uint8Array
  /** Milliseconds without an instance after which the agent ends; 0: never. @default 0 */
  readonly timeout?: number
  /** Milliseconds without a hub after which the agent ends, even if it has instances; 0: never. @default 0 */
  readonly hubTimeout?: number
  /** Name of the agent at the hub. @default the name of the machine */
  readonly name?: string
  /** Labels that services may require: a service with `require.gpu: a100` needs an agent with `gpu: a100`. @default {} */
  readonly labels?: Readonly<Record<string, string>>
  /** Processors that instances may use. @default the number of processors of the machine */
  readonly cpus?: number
  /** Bytes of memory that instances may use. @default the memory of the machine */
  readonly memory?: number
  /** The provider that runs the instances on this machine. @default processes() */
  readonly provider?: Provider
  /** Encrypts. `true` expects a certificate of a known authority; else give the authority, or the SHA-256 of the certificate. */
  readonly tls?: true | { readonly ca?: string | Uint8Array; readonly fingerprint?: string }
  /** Whether the agent may dial another machine without TLS. @default false */
  readonly insecure?: boolean
  /** Milliseconds for draining the instances when the agent ends. @default 30000 */
  readonly drainTimeout?: number
  /** Longest wait between two attempts to connect, in milliseconds. @default 30000 */
  readonly maxDelay?: number
  /** When it is aborted, the agent takes no new instance, lets the hub drain those that it has, and ends. */
  readonly signal?: AbortSignal
  /** Called with each thing that happens, for a log. */
  readonly onEvent?: (event: AgentNotice) => void
}

export interface AgentNotice {
  readonly what: 'connected' | 'lost' | 'draining' | 'stopped' | 'started' | 'ended' | 'ending'
  readonly detail: string
}

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
  ...text('host:port or unix:/path', (value) => parseListenAddress(value) !== undefined),
  initial,
})

/** Every option with its range and default. A test compares the tables in docs/agents.md with these. */
export const AGENTS_RULES = {
  listen: addressRule('127.0.0.1:4747'),
  key: rule<WireKey>('16 bytes or more, or a function that finds them', undefined, (value) =>
    typeof value === 'function' || isSecret(value) ? (value as WireKey) : undefined,
  ),
  keyFile: text('the path of a file', isPath),
  tls: objectRule<TlsOptions>('options of tls.createServer()'),
  certFile: text('the path of a file', isPath),
  certKeyFile: text('the path of a file', isPath),
  insecure: flag(false),
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
  insecure: flag(false),
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

/** Whether the address is on this machine, and cannot be reached from another one. */
export function isLocalAddress(text: string): boolean {
  const address = parseListenAddress(text)
  return address !== undefined && isLoopbackAddress(address)
}
