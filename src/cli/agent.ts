/** `manyhost agent`: this machine runs instances for a hub elsewhere, until Ctrl-C. */
import { readFileSync } from 'node:fs'
import { type AgentNotice, type AgentOptions, runAgent } from '../../providers/agent/index.ts'
import { docker, podman } from '../../providers/docker/index.ts'
import { describeError, ManyhostError } from '../core/errors.ts'
import type { Provider } from '../core/provider.ts'
import { parseDuration } from '../core/time.ts'
import { CliError, EXIT } from './exit.ts'
import { abortOnInterrupt } from './interrupt.ts'
import { createPaint, write } from './terminal.ts'

interface AgentFlags {
  readonly connect: string
  readonly keyFile?: string
  readonly maxInstances?: number
  readonly name?: string
  readonly label?: readonly string[]
  readonly cpus?: number
  readonly memory?: number
  readonly provider: 'process' | 'docker' | 'podman'
  readonly tls?: boolean
  readonly caFile?: string
  readonly fingerprint?: string
  readonly insecure?: boolean
  readonly timeout?: string
  readonly hubTimeout?: string
  readonly drainTimeout?: string
}

export async function run(_: readonly unknown[], flags: AgentFlags): Promise<number> {
  const key = readAgentKey(flags.keyFile)
  const signal = createInterruptSignal()
  const provider = createProvider(flags.provider)
  try {
    await runAgent({
      ...toAgentOptions(flags),
      key,
      signal,
      onEvent: printNotice,
      ...(provider && { provider }),
    })
    return EXIT.ok.number
  } catch (error) {
    throw toAgentCliError(error)
  } finally {
    await provider?.close?.()
  }
}

/** With a reason that says which signal it was: here it is shown, and the hub's log has it too. */
function createInterruptSignal(): AbortSignal {
  const { signal, code } = abortOnInterrupt()
  const over = new AbortController()
  const tellWhy = (): void =>
    over.abort(new Error(code() === EXIT.interrupted.number ? 'SIGINT' : 'SIGTERM'))
  signal.addEventListener('abort', tellWhy, { once: true })
  return over.signal
}

/** From a file or the environment: what is in the command line, every user of the machine can read. */
function readAgentKey(file: string | undefined): string {
  const given = process.env.MANYHOST_AGENT_KEY
  // Instances inherit our environment, and have no business with the key of the hub.
  delete process.env.MANYHOST_AGENT_KEY
  if (file === undefined && !given) {
    throw new CliError('usage', 'the key is needed: --key-file, or MANYHOST_AGENT_KEY')
  }
  const key = file === undefined ? (given ?? '') : readOptionText('--key-file', file)
  if (Buffer.byteLength(key.trim()) >= 16) return key.trim()
  throw new CliError('usage', 'the key must have 16 bytes or more')
}

function readOptionText(option: string, file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new CliError('usage', `${option} ${file} cannot be read: ${describeError(error)}`)
  }
}

function toAgentOptions(flags: AgentFlags): Omit<AgentOptions, 'key'> {
  const { connect, maxInstances, name, label, cpus, memory, insecure } = flags
  const { tls, caFile, fingerprint, timeout, hubTimeout, drainTimeout } = flags
  const trusted = {
    ...(caFile !== undefined && { ca: readOptionText('--ca-file', caFile) }),
    ...(fingerprint !== undefined && { fingerprint }),
  }
  const isPinned = Object.keys(trusted).length > 0
  return {
    address: connect,
    ...(maxInstances !== undefined && { maxInstances }),
    ...(name !== undefined && { name }),
    ...(label && { labels: parseLabels(label) }),
    ...(cpus !== undefined && { cpus }),
    ...(memory !== undefined && { memory }),
    ...(insecure && { insecure }),
    ...((tls || isPinned) && { tls: isPinned ? trusted : true }),
    ...(timeout !== undefined && { timeout: parseDuration(timeout) }),
    ...(hubTimeout !== undefined && { hubTimeout: parseDuration(hubTimeout) }),
    ...(drainTimeout !== undefined && { drainTimeout: parseDuration(drainTimeout) }),
  }
}

function parseLabels(given: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    given.map((one) => {
      const [, name, value] = /^([^=]+)=(.*)$/.exec(one) ?? []
      if (name !== undefined && value !== undefined) return [name, value]
      throw new CliError('usage', `--label is like gpu=a100, got '${one}'`)
    }),
  )
}

function createProvider(name: AgentFlags['provider']): Provider | undefined {
  if (name === 'docker') return docker()
  return name === 'podman' ? podman() : undefined
}

function printNotice({ what, detail }: AgentNotice): void {
  const paint = createPaint(process.stderr)
  const colour = what === 'lost' ? 'yellow' : 'dim'
  void write(`${paint(colour, what.padEnd(10))} ${detail}\n`, process.stderr)
}

function toAgentCliError(error: unknown): unknown {
  if (!(error instanceof ManyhostError)) return error
  if (error.code === 'MANYHOST_WIRE_AUTH') return new CliError('refused', error.message)
  if (error.code === 'MANYHOST_INVALID_OPTION') return new CliError('usage', error.message)
  return error
}
