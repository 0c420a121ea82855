/** Commands in a running container. The script goes in by standard input, because the API server logs command lines. */
import { PassThrough, type Readable, type Writable } from 'node:stream'
import { deferred } from '../../src/core/deferred.ts'
import { ManyhostError } from '../../src/core/errors.ts'
import { BOOTSTRAP, frameScript } from '../shared/remote-shell/shell.ts'
import type { KubernetesApi } from './api.ts'
import type { PodChannels } from './channels.ts'

/** One container of one pod. */
export interface PodContainer {
  readonly api: KubernetesApi
  readonly namespace: string
  readonly pod: string
  readonly container: string
}

export interface PodCommand {
  readonly stdout: Readable
  readonly stderr: Readable
  /** Sends more input; resolves when it was written. */
  write(data: Buffer): Promise<void>
  /** Resolves with the exit code; rejects when the connection ended before that. */
  readonly ended: Promise<number>
  /** Closes the connection. */
  disconnect(): void
}

const [STDIN, STDOUT, STDERR, STATUS] = [0, 1, 2, 3] as const

/** Longest message, in bytes. */
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
  const status = deferred<ExecStatus>()
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
    else if (channel === STATUS && data.length > 0) status.resolve(parseStatus(data))
  })
  const lost = channels.closed.then((): never => {
    throw new ManyhostError('MANYHOST_START_FAILED', `the connection into ${pod} was lost`)
  })
  const ended = Promise.race([status.promise, lost]).then(exitCodeOfStatus)
  ended
    .catch(() => undefined)
    .finally(() => {
      for (const stream of streams) stream.end()
      channels.destroy()
    })
  const write = (data: Buffer): Promise<void> => sendInput(channels, data)
  await write(frameScript(script)).catch(() => undefined)
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

function exitCodeOfStatus({ status, message = '', details }: ExecStatus): number {
  if (status === 'Success') return 0
  const cause = details?.causes?.find(({ reason }) => reason === 'ExitCode')
  if (cause) return Number(cause.message)
  // Nothing was run: the container does not exist, or it has no shell.
  throw new ManyhostError('MANYHOST_START_FAILED', message.slice(0, 1_000))
}

/** Resolves when the whole output was read, or its connection has ended. */
export function whenReadToEnd(
  stream: NodeJS.ReadableStream & { readableEnded?: boolean },
): Promise<void> {
  return new Promise((resolve) => {
    if (stream.readableEnded) resolve()
    stream.once('end', resolve)
    stream.once('close', resolve)
  })
}
