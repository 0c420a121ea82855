/**
 * The protocol between a task server and a runner: `POST /tasks` with tasks as lines of JSON, answered by a stream of frames.
 * design.md describes all of it.
 */

import type { Task, TaskOutcome } from '../model/task.ts'
import { toJson } from '../text/exact-json.ts'

/** A task as the runner gets it. Fields that the runner does not need become variables, `TASK_...`. */
export type RunTask = Pick<Task, 'id' | 'args' | 'fence'> & Partial<Task>

/** First line of a POST: `{"bundle": {...}}`. What is left out has the default of the runner. */
export interface BundleOptions {
  /** Makes the command of `args`. @default '{}' */
  readonly template?: string
  readonly cwd?: string
  /** Added to the runner's environment. */
  readonly env?: Readonly<Record<string, string>>
  /** Milliseconds; the timeout of a task may be shorter. */
  readonly timeout?: number
  /** Milliseconds between INT, TERM and KILL. */
  readonly signalWait?: number
  /** Whether the answer has the output of tasks. @default true */
  readonly capture?: boolean
  /** Whether the use of cores and memory is sampled each second. @default false */
  readonly monitor?: boolean
  /** Outcomes are sent when there are `bundleSize`, or after `bundleWait` ms. @default 100 and 50 */
  readonly bundleSize?: number
  readonly bundleWait?: number
}

/** An outcome, and how it came about. */
export interface RunOutcome extends TaskOutcome {
  /** For people: why the task was not started, or was interrupted: `timeout after 30000 ms`. */
  readonly message?: string
  /** The task was interrupted while it ran: its exit status says nothing about the task itself. */
  readonly interrupted?: 'stopped' | 'cancelled' | 'timeout'
}

/** The runner that took the bundle: the first frame of each answer. */
export interface RunnerHello {
  readonly clientId: string
  readonly clientHost: string
  readonly numTasks: number
}

export type OutputStream = 'stdout' | 'stderr' | 'csv'

/** One frame of an answer. `index` is the position of the task in the POST, from 0. */
export type RunnerMessage =
  | { readonly is: 'hello'; readonly hello: RunnerHello }
  | { readonly is: OutputStream; readonly index: number; readonly data: Buffer }
  | { readonly is: 'outcomes'; readonly outcomes: readonly RunOutcome[] }
  /** Tasks that were not started, to be given to another runner. `fence` names the claim. */
  | { readonly is: 'returned'; readonly tasks: readonly { id: string; fence: number }[] }
  /** A line of the POST is no task. */
  | { readonly is: 'refused'; readonly index: number; readonly message: string }
  /** Nothing new: shows that the runner is alive. */
  | { readonly is: 'beat' }
  /** The answer is complete. An answer without this frame was cut off. */
  | { readonly is: 'end' }

const FRAME_TYPES = {
  hello: 1,
  stdout: 2,
  stderr: 3,
  csv: 4,
  outcomes: 5,
  returned: 6,
  refused: 7,
  beat: 8,
  end: 9,
} as const satisfies Record<RunnerMessage['is'], number>

const FRAME_NAMES = new Map(
  Object.entries(FRAME_TYPES).map(([name, type]) => [type, name as RunnerMessage['is']]),
)

/** Type, index, and length of the payload. */
export const FRAME_HEADER_BYTES = 9

/** Longest payload. A longer one does not come from a runner. */
export const MAX_PAYLOAD_BYTES = 67_108_864

export const RUNNER_CONTENT_TYPE = 'application/vnd.manyhost.tasks'

export function encodeRunnerFrame(
  is: RunnerMessage['is'],
  index: number,
  payload?: Uint8Array,
): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES + (payload?.length ?? 0))
  bytes[0] = FRAME_TYPES[is]
  bytes.writeUInt32BE(index, 1)
  bytes.writeUInt32BE(payload?.length ?? 0, 5)
  if (payload) bytes.set(payload, FRAME_HEADER_BYTES)
  return bytes
}

export function encodeRunnerJsonFrame(
  is: RunnerMessage['is'],
  index: number,
  value: unknown,
): Buffer {
  return encodeRunnerFrame(is, index, Buffer.from(JSON.stringify(value)))
}

/** The answer does not follow the protocol: the runner has another version, or is no runner. */
export class RunnerProtocolError extends Error {
  override readonly name = 'RunnerProtocolError'
}

/**
 * Reads an answer as it comes. Ends after `end`.
 * @throws RunnerProtocolError; what the body throws
 */
export async function* readRunnerMessages(
  body: AsyncIterable<Uint8Array>,
): AsyncGenerator<RunnerMessage> {
  const frames = new RunnerFrameDecoder()
  for await (const chunk of body) {
    for (const message of frames.feed(chunk)) {
      yield message
      if (message.is === 'end') return
    }
  }
  throw new RunnerProtocolError('the answer of the runner was cut off')
}

/** Makes messages of bytes, however these are cut. */
export class RunnerFrameDecoder {
  #chunks: Buffer[] = []
  #size = 0
  #neededBytes = FRAME_HEADER_BYTES

  feed(chunk: Uint8Array): RunnerMessage[] {
    const messages: RunnerMessage[] = []
    this.#chunks.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    this.#size += chunk.byteLength
    if (this.#size < this.#neededBytes) return messages
    let bytes =
      this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks)
    while (bytes.length >= FRAME_HEADER_BYTES) {
      const length = bytes.readUInt32BE(5)
      const is = FRAME_NAMES.get(bytes[0] as never)
      if (!is || length > MAX_PAYLOAD_BYTES)
        throw new RunnerProtocolError(
          'the answer has a frame of an unknown kind: it comes from no runner of this version',
        )
      this.#neededBytes = FRAME_HEADER_BYTES + length
      if (bytes.length < this.#neededBytes) break
      const payload = bytes.subarray(FRAME_HEADER_BYTES, this.#neededBytes)
      messages.push(decodeMessage(is, bytes.readUInt32BE(1), payload))
      bytes = bytes.subarray(this.#neededBytes)
      this.#neededBytes = FRAME_HEADER_BYTES
    }
    this.#chunks = bytes.length > 0 ? [bytes] : []
    this.#size = bytes.length
    return messages
  }
}

function decodeMessage(is: RunnerMessage['is'], index: number, payload: Buffer): RunnerMessage {
  switch (is) {
    case 'stdout':
    case 'stderr':
    case 'csv':
      return { is, index, data: payload }
    case 'beat':
    case 'end':
      return { is }
    case 'hello':
      return { is, hello: parsePayload(payload) as RunnerHello }
    case 'outcomes':
      return { is, outcomes: parsePayload(payload) as RunOutcome[] }
    case 'returned':
      return { is, tasks: parsePayload(payload) as { id: string; fence: number }[] }
    case 'refused':
      return { is, index, message: String(parsePayload(payload)) }
  }
}

function parsePayload(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString('utf8'))
  } catch (cause) {
    throw new RunnerProtocolError('a frame of the answer is not JSON', { cause })
  }
}

/** The body of a POST, line by line. */
export function* formatBundleLines(
  options: BundleOptions,
  tasks: Iterable<RunTask>,
): Generator<string> {
  yield `${JSON.stringify({ bundle: options })}\n`
  for (const task of tasks) yield `${toJson(task)}\n`
}
