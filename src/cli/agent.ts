/** `manyhost agent`: runs instances on this machine for a hub on another machine, until Ctrl-C. */
import { type AgentNotice, type AgentOptions, runAgent } from '../../providers/agent/index.ts'
import { docker, podman } from '../../providers/docker/index.ts'
import type { Provider } from '../core/provider.ts'
import { CliError, EXIT, toCliError } from './exit.ts'
import { abortOnInterrupt } from './interrupt.ts'
import { checkSecretLength, readOptionFile, readSecret } from './secrets.ts'
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
  readonly timeout?: number
  readonly hubTimeout?: number
  readonly drainTimeout?: number
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
    throw toCliError(error, {
      MANYHOST_WIRE_AUTH: 'refused',
      MANYHOST_INVALID_OPTION: 'usage',
    })
  } finally {
    await provider?.close?.()
  }
}

/** The reason of the abort names the signal. The agent prints it, and the hub writes it to its log. */
function createInterruptSignal(): AbortSignal {
  const { signal, code } = abortOnInterrupt()
  const controller = new AbortController()
  const abort = (): void =>
    controller.abort(new Error(code() === EXIT.interrupted.number ? 'SIGINT' : 'SIGTERM'))
  signal.addEventListener('abort', abort, { once: true })
  return controller.signal
}

/** @throws CliError for a key that is missing or too short */
function readAgentKey(file: string | undefined): string {
  const key = readSecret('--key-file', file, 'MANYHOST_AGENT_KEY')
  // The instances inherit this environment, and must not have the key of the hub.
  delete process.env.MANYHOST_AGENT_KEY
  if (key === undefined) {
    throw new CliError('usage', 'the key is needed: --key-file, or MANYHOST_AGENT_KEY')
  }
  return checkSecretLength(key.trim(), 'the key', 'usage')
}

function toAgentOptions(flags: AgentFlags): Omit<AgentOptions, 'key'> {
  const { connect, maxInstances, name, label, cpus, memory, insecure } = flags
  const { tls, caFile, fingerprint, timeout, hubTimeout, drainTimeout } = flags
  const trusted = {
    ...(caFile !== undefined && { ca: readOptionFile('--ca-file', caFile).toString('utf8') }),
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
    ...(timeout !== undefined && { timeout }),
    ...(hubTimeout !== undefined && { hubTimeout }),
    ...(drainTimeout !== undefined && { drainTimeout }),
  }
}

function parseLabels(given: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    given.map((one) => {
      const [, name, value] = /^([^=]+)=(.*)$/.exec(one) ?? []
      if (name !== undefined && value !== undefined) return [name, value]
      throw new CliError('usage', `--label: expected name=value such as gpu=a100, got '${one}'`)
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
