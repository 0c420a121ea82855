/**
 * What a server and a runner say to each other: `POST /tasks` with tasks as lines of JSON, answered by a stream of
 * frames. design.md has the whole of it.
 */
import { toJson } from '../json.ts'
import type { Task, TaskOutcome } from '../task.ts'

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
export interface Hello {
  readonly clientId: string
  readonly clientHost: string
  readonly places: number
}

export type OutputStream = 'stdout' | 'stderr' | 'csv'

/** What an answer is made of. `index` is the task's position in the POST, from 0. */
export type Message =
  | { readonly is: 'hello'; readonly hello: Hello }
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

const TYPES = {
  hello: 1,
  stdout: 2,
  stderr: 3,
  csv: 4,
  outcomes: 5,
  returned: 6,
  refused: 7,
  beat: 8,
  end: 9,
} as const satisfies Record<Message['is'], number>

const NAMES = new Map(Object.entries(TYPES).map(([name, type]) => [type, name as Message['is']]))

/** Type, index, length of what follows. */
export const HEADER = 9

/** Longest payload; longer ones are not ours. */
export const LONGEST_FRAME = 67_108_864

export const CONTENT_TYPE = 'application/vnd.manyhost.tasks'

export function frame(is: Message['is'], index: number, payload?: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER + (payload?.length ?? 0))
  bytes[0] = TYPES[is]
  bytes.writeUInt32BE(index, 1)
  bytes.writeUInt32BE(payload?.length ?? 0, 5)
  if (payload) bytes.set(payload, HEADER)
  return bytes
}

export function jsonFrame(is: Message['is'], index: number, value: unknown): Buffer {
  return frame(is, index, Buffer.from(JSON.stringify(value)))
}

/** An answer that is none: the runner is of another version, or is no runner. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError'
}

/**
 * Reads an answer as it comes. Ends after `end`.
 * @throws ProtocolError; what the body throws
 */
export async function* readAnswer(body: AsyncIterable<Uint8Array>): AsyncGenerator<Message> {
  const frames = new Frames()
  for await (const chunk of body) {
    for (const message of frames.feed(chunk)) {
      yield message
      if (message.is === 'end') return
    }
  }
  throw new ProtocolError('the answer of the runner was cut off')
}

/** From bytes, however they are cut, to messages. */
export class Frames {
  #held: Buffer[] = []
  #size = 0
  #wanted = HEADER

  feed(chunk: Uint8Array): Message[] {
    const messages: Message[] = []
    this.#held.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength))
    this.#size += chunk.byteLength
    if (this.#size < this.#wanted) return messages
    let bytes = this.#held.length === 1 ? (this.#held[0] as Buffer) : Buffer.concat(this.#held)
    while (bytes.length >= HEADER) {
      const length = bytes.readUInt32BE(5)
      const is = NAMES.get(bytes[0] as never)
      if (!is || length > LONGEST_FRAME) throw new ProtocolError('a frame of an unknown kind')
      this.#wanted = HEADER + length
      if (bytes.length < this.#wanted) break
      const payload = bytes.subarray(HEADER, this.#wanted)
      messages.push(toMessage(is, bytes.readUInt32BE(1), payload))
      bytes = bytes.subarray(this.#wanted)
      this.#wanted = HEADER
    }
    this.#held = bytes.length > 0 ? [bytes] : []
    this.#size = bytes.length
    return messages
  }
}

function toMessage(is: Message['is'], index: number, payload: Buffer): Message {
  switch (is) {
    case 'stdout':
    case 'stderr':
    case 'csv':
      return { is, index, data: payload }
    case 'beat':
    case 'end':
      return { is }
    case 'hello':
      return { is, hello: json(payload) as Hello }
    case 'outcomes':
      return { is, outcomes: json(payload) as RunOutcome[] }
    case 'returned':
      return { is, tasks: json(payload) as { id: string; fence: number }[] }
    case 'refused':
      return { is, index, message: String(json(payload)) }
  }
}

function json(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString('utf8'))
  } catch (cause) {
    throw new ProtocolError('a frame is not JSON', { cause })
  }
}

/** The body of a POST. Iterate it into the request: nothing is made before it is sent. */
export function* bundleLines(options: BundleOptions, tasks: Iterable<RunTask>): Generator<string> {
  yield `${JSON.stringify({ bundle: options })}\n`
  for (const task of tasks) yield `${toJson(task)}\n`
}
