/** Commands within a container that runs. What they are goes in by standard input: the API server logs their words. */
import { PassThrough, type Readable, type Writable } from 'node:stream'
import { ManyhostError } from '../../src/core/errors.ts'
import { BOOTSTRAP } from '../shared/remote-shell/shell.ts'
import type { KubernetesApi } from './api.ts'
import type { PodChannels } from './channels.ts'

export interface PodContainer {
  readonly api: KubernetesApi
  readonly namespace: string
  readonly pod: string
  readonly container: string
}

export interface PodCommand {
  readonly stdout: Readable
  readonly stderr: Readable
  /** Takes more input; resolves when it is on its way. */
  write(data: Buffer): Promise<void>
  /** Its exit code, and what the cluster says of it; rejects when the connection ended before that. */
  readonly ended: Promise<{ readonly code: number; readonly why: string }>
  /** Lets go of it. */
  disconnect(): void
}

const [STDIN, STDOUT, STDERR, STATUS] = [0, 1, 2, 3] as const

/** Most input that is sent at a time, in bytes. */
const MAX_MESSAGE_BYTES = 65_536

interface ExecStatus {
  readonly status?: string
  readonly message?: string
  readonly details?: { readonly causes?: readonly { reason?: string; message?: string }[] }
}

/** Runs a script by the container's own shell. @throws ManyhostError MANYHOST_START_FAILED */
export async function executeInPod(target: PodContainer, script: string): Promise<PodCommand> {
  const { api, namespace, pod, container } = target
  const query = new URLSearchParams({ container, stdin: 'true', stdout: 'true', stderr: 'true' })
  for (const word of ['sh', '-c', BOOTSTRAP]) query.append('command', word)
  const path = `/api/v1/namespaces/${namespace}/pods/${pod}/exec?${query}`
  const channels = await api.openChannels(path)
  const streams = [new PassThrough(), new PassThrough()] as const
  const [stdout, stderr] = streams
  let settle: (status: ExecStatus) => void = () => {}
  const status = new Promise<ExecStatus>((resolve) => {
    settle = resolve
  })
  const waiting = new Set<Writable>()
  const pass = (stream: Writable, data: Buffer): void => {
    if (stream.write(data) || waiting.has(stream)) return
    waiting.add(stream)
    channels.pause()
    stream.once('drain', () => {
      waiting.delete(stream)
      if (waiting.size === 0) channels.resume()
    })
  }
  channels.listen((channel, data) => {
    if (channel === STDOUT && data.length > 0) pass(stdout, data)
    else if (channel === STDERR && data.length > 0) pass(stderr, data)
    else if (channel === STATUS && data.length > 0) settle(parseStatus(data))
  })
  const lost = channels.closed.then((): never => {
    throw new ManyhostError('MANYHOST_START_FAILED', `the connection into ${pod} was lost`)
  })
  const ended = Promise.race([status, lost]).then(exitCodeOfStatus)
  ended
    .catch(() => undefined)
    .finally(() => {
      for (const stream of streams) stream.end()
      channels.destroy()
    })
  const bytes = Buffer.from(`${script}\n`)
  const write = (data: Buffer): Promise<void> => sendInput(channels, data)
  await write(Buffer.concat([Buffer.from(`${bytes.length}\n`), bytes])).catch(() => undefined)
  return { stdout, stderr, write, ended, disconnect: () => channels.destroy() }
}

async function sendInput(channels: PodChannels, data: Buffer): Promise<void> {
  for (let at = 0; at < data.length; at += MAX_MESSAGE_BYTES) {
    const piece = data.subarray(at, at + MAX_MESSAGE_BYTES)
    await new Promise<void>((resolve, reject) => {
      channels.write(STDIN, piece, (error) => (error ? reject(error) : resolve()))
    })
  }
}

function parseStatus(data: Buffer): ExecStatus {
  try {
    return JSON.parse(data.toString()) as ExecStatus
  } catch {
    return { status: 'Failure', message: data.toString().slice(0, 500) }
  }
}

function exitCodeOfStatus({ status, message = '', details }: ExecStatus): {
  code: number
  why: string
} {
  if (status === 'Success') return { code: 0, why: '' }
  const cause = details?.causes?.find(({ reason }) => reason === 'ExitCode')
  if (cause) return { code: Number(cause.message), why: '' }
  // There is no shell, or no such container: nothing was run.
  throw new ManyhostError('MANYHOST_START_FAILED', message.slice(0, 1_000))
}

/** Resolves when all of an output was read, or its connection has ended. */
export function whenReadToEnd(
  stream: NodeJS.ReadableStream & { readableEnded?: boolean },
): Promise<void> {
  return new Promise((resolve) => {
    if (stream.readableEnded) resolve()
    stream.once('end', resolve)
    stream.once('close', resolve)
  })
}
