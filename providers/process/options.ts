/** The options of `processes`, with their rules. */
import { flag, oneOf, type ParsedOptions, parseOptions, record } from '../../src/core/options.ts'
import { lineRule, PORTS_RULE } from '../shared/option-rules.ts'
import type { PortRange } from '../shared/ports.ts'

export interface ProcessOptions {
  /** Address that TCP servers listen on. @default '127.0.0.1' */
  readonly host?: string
  /**
   * First and last port, both included; 1 to 65535.
   *
   * The default lies below the ephemeral ports of the kernel (from 32768 on Linux), for two reasons: an outgoing
   * connection may take an ephemeral port before the server does, and a client that keeps connecting to a closed
   * ephemeral port of its own machine is at last connected to itself.
   * @default [20000, 32000]
   */
  readonly ports?: PortRange
  /** What servers listen on, if their service does not say. @default 'tcp' */
  readonly listen?: 'tcp' | 'unix'
  /** Environment of all instances. A variable of the service replaces one of these. */
  readonly env?: Readonly<Record<string, string>>
  /**
   * Whether instances get the environment of this process as well. Secrets of manyhost itself, such as
   * MANYHOST_TASKS_TOKEN, are left out: an instance that needs one gets it by `env`.
   * @default true
   */
  readonly inheritEnv?: boolean
  /** Folder that instances run in. The folder of a service is relative to it. @default the working directory */
  readonly cwd?: string
}

/** Every option with its range and default. */
const PROCESS_RULES = {
  host: lineRule('an address of this machine', '127.0.0.1'),
  ports: PORTS_RULE,
  listen: oneOf(['tcp', 'unix'], 'tcp'),
  env: record(),
  inheritEnv: flag(true),
  cwd: lineRule('the path of a folder', '.'),
} as const

export type ProcessSettings = ParsedOptions<typeof PROCESS_RULES>

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseProcessOptions(options: ProcessOptions): ProcessSettings {
  return parseOptions('processes', options, PROCESS_RULES)
}
