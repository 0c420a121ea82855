/** Options of `processes`, checked once, where they are given. */
import { ManyhostError } from '../../src/core/errors.ts'
import type { PortRange } from '../shared/ports.ts'

export interface ProcessOptions {
  /** Address that TCP servers listen on. @default '127.0.0.1' */
  readonly host?: string
  /**
   * First and last port, both included; 1 to 65535.
   *
   * The default lies below the kernel's ephemeral ports (from 32768 on Linux). In there, any outgoing connection may
   * sit on the port by the time the server wants it, and a client that keeps connecting to a closed port of its own
   * machine is at last connected to itself.
   * @default [20000, 32000]
   */
  readonly ports?: PortRange
  /** What servers listen on where the service does not say. @default 'tcp' */
  readonly listen?: 'tcp' | 'unix'
  /** Environment of all instances; a service's own comes on top. */
  readonly env?: Readonly<Record<string, string>>
  /**
   * Whether instances get our environment as well. Not its secrets of manyhost itself, such as MANYHOST_TASKS_TOKEN: an
   * instance that needs one gets it by `env`.
   * @default true
   */
  readonly inheritEnv?: boolean
  /** Folder that instances run in; a service's own is relative to it. @default the working directory */
  readonly cwd?: string
}

const DEFAULT_OPTIONS = {
  host: '127.0.0.1',
  ports: [20_000, 32_000],
  listen: 'tcp',
  env: {},
  inheritEnv: true,
  cwd: '.',
} as const satisfies Required<ProcessOptions>

/** Per option: what it must be, and whether a value is that. */
const PROCESS_RULES: Record<keyof ProcessOptions, readonly [string, (value: unknown) => boolean]> =
  {
    host: ['an address of this machine', isText],
    ports: ['[from, to], whole numbers from 1 to 65535, from <= to', isPortRange],
    listen: ["'tcp' or 'unix'", (value) => value === 'tcp' || value === 'unix'],
    env: ['an object of strings', isEnv],
    inheritEnv: ['a boolean', (value) => typeof value === 'boolean'],
    cwd: ['the path of a folder', isText],
  }

/** @throws ManyhostError MANYHOST_INVALID_OPTION */
export function parseProcessOptions(options: ProcessOptions): Required<ProcessOptions> {
  for (const [name, value] of Object.entries(options)) {
    const rule = PROCESS_RULES[name as keyof ProcessOptions]
    if (!Object.hasOwn(PROCESS_RULES, name)) {
      const known = Object.keys(PROCESS_RULES).join(', ')
      throw invalid(`processes has no option '${name}'; it has ${known}`)
    }
    const [wanted, isRight] = rule
    if (!isRight(value)) throw invalid(`${name} must be ${wanted}, got ${show(value)}`)
  }
  return { ...DEFAULT_OPTIONS, ...options }
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value !== ''
}

function isPort(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 65_535
}

function isPortRange(value: unknown): boolean {
  if (!Array.isArray(value) || value.length !== 2) return false
  const [from, to] = value
  return isPort(from) && isPort(to) && from <= to
}

function isEnv(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  return Object.values(value).every((entry) => typeof entry === 'string')
}

function show(value: unknown): string {
  return JSON.stringify(value) ?? String(value)
}

function invalid(message: string): ManyhostError {
  return new ManyhostError('MANYHOST_INVALID_OPTION', message)
}
