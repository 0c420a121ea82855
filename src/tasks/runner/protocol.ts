/**
 * What a server and a runner say to each other: `POST /tasks` with tasks as lines of JSON, answered by a stream of
 * frames. design.md has the whole of it.
 */

import type { Task, TaskOutcome } from '../model/task.ts'
import { toJson } from '../text/exact-json.ts'

/** What the runner needs of a task; all else that is sent becomes its environment, `TASK_...`. */
export type RunTask = Pick<Task, 'id' | 'args' | 'fence'> & Partial<Task>

/** First line of a POST: `{"bundle": {...}}`. All may be left out; the runner has its own defaults. */
export interface BundleOptions {
  /** How `args` becomes the command. @default '{}' */
  readonly template?: string
  readonly cwd?: string
  /** Added to the runner's environment. */
  readonly env?: Readonly<Record<string, string>>
  /** Milliseconds; a task's own may be shorter. */
  readonly timeout?: number
  /** Milliseconds between INT, TERM and KILL. */
  readonly signalWait?: number
  /** Whether what tasks write comes back. @default true */
  readonly capture?: boolean
  /** Whether cores and memory are sampled, each second. */
  readonly monitor?: boolean
  /** Outcomes are sent at so many, or after so many ms, whichever comes first. @default 100 and 50 */
  readonly bundleSize?: number
  readonly bundleWait?: number
}

/** An outcome, and what there is to say of it. */
export interface RunOutcome extends TaskOutcome {
  /** For people: why it was not started, or was ended: `timeout after 30000 ms`. */
  readonly message?: string
  /** The runner was told to stop, or the task was cancelled, while it ran; it says nothing of the task itself. */
  readonly interrupted?: 'stopped' | 'cancelled' | 'timeout'
}

/** Which runner took the bundle; the first frame of each answer. */
export interface RunnerHello {
  readonly clientId: string
  readonly clientHost: string
  readonly numTasks: number
}

export type OutputStream = 'stdout' | 'stderr' | 'csv'

/** What an answer is made of. `index` is the task's position in the POST, from 0. */
export type RunnerMessage =
  | { readonly is: 'hello'; readonly hello: RunnerHello }
  | { readonly is: OutputStream; readonly index: number; readonly data: Buffer }
  | { readonly is: 'outcomes'; readonly outcomes: readonly RunOutcome[] }
  /** Never started, to be given to another runner: `fence` says which claim. */
  | { readonly is: 'returned'; readonly tasks: readonly { id: string; fence: number }[] }
  /** A line of the POST that is no task. */
  | { readonly is: 'refused'; readonly index: number; readonly message: string }
  /** Nothing new: the runner lives. */
  | { readonly is: 'beat' }
  /** All was said. An answer without it was cut off. */
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

/** Type, index, length of what follows. */
export const FRAME_HEADER_BYTES = 9

/** Longest payload; longer ones are not ours. */
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

/** An answer that is none: the runner is of another version, or is no runner. */
export class RunnerProtocolError extends Error {
  override readonly name = 'ProtocolError'
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

/** From bytes, however they are cut, to messages. */
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
        throw new RunnerProtocolError('a frame of an unknown kind')
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
    throw new RunnerProtocolError('a frame is not JSON', { cause })
  }
}

/** The body of a POST. Iterate it into the request: nothing is made before it is sent. */
export function* formatBundleLines(
  options: BundleOptions,
  tasks: Iterable<RunTask>,
): Generator<string> {
  yield `${JSON.stringify({ bundle: options })}\n`
  for (const task of tasks) yield `${toJson(task)}\n`
}
