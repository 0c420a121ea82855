/**
 * What a command does when the reader of its output goes away, as `head` does. The entry of a command in the table of commands
 * has its rule. Only a listing ends with 0, because nothing else was left to do.
 */
import { describeError } from '../core/errors.ts'
import { EXIT } from './exit.ts'

/**
 * - `goOn`: the command goes on without output, and its exit code is that of its work. The default.
 * - `end`: the command ends with 0. For listings, whose reader has seen enough.
 * - `stop`: the command ends as at SIGTERM, with a code other than 0. For commands whose only work is to write, or whose
 *   problems nobody would see.
 * - `stopOnEither`: the same, also if the reader of standard error goes away.
 */
export type UnreadRule = 'goOn' | 'end' | 'stop' | 'stopOnEither'

/** These errors mean that the reader has gone. Any other one, such as a full disk, is a problem of the output itself. */
const READER_GONE_CODES: ReadonlySet<string | undefined> = new Set([
  'EPIPE',
  'ECONNRESET',
  'EIO',
  'ENOTCONN',
  'ERR_STREAM_DESTROYED',
])

let unreadRule: UnreadRule = 'goOn'
let isStopped = false

/** Sets the rule of the command that is about to run. */
export function setUnreadRule(given: UnreadRule): void {
  unreadRule = given
}

/** Whether the command was stopped because a reader went away. Such a command does not end with 0. */
export function isStoppedUnread(): boolean {
  return isStopped
}

/** To be called once, before anything is written. @param terminated answers the exit code for SIGTERM */
export function watchOutputReaders(terminated: () => number): void {
  for (const name of ['stdout', 'stderr'] as const) {
    const stream = process[name]
    let isMuted = false
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (isMuted) return
      isMuted = true
      muteStream(stream)
      handleLostReader(name, error, terminated)
    })
  }
}

function handleLostReader(
  name: 'stdout' | 'stderr',
  error: NodeJS.ErrnoException,
  terminated: () => number,
): void {
  const isGone = READER_GONE_CODES.has(error.code)
  const isOutput = name === 'stdout'
  if (isOutput && unreadRule === 'end') {
    if (isGone) process.exit(EXIT.ok.number)
    process.stderr.write(`manyhost: cannot write the output: ${describeError(error)}\n`)
    process.exit(EXIT.failure.number)
  }
  const isStopping = unreadRule === 'stopOnEither' || (isOutput && unreadRule !== 'goOn')
  if (isOutput) {
    const why = isGone
      ? 'nobody reads the output any more'
      : `cannot write the output: ${describeError(error)}`
    const what = isStopping
      ? 'the command ends, as at SIGTERM'
      : 'the command goes on without output'
    process.stderr.write(`manyhost: ${why}: ${what}\n`)
  }
  // A second signal would end the process without waiting.
  if (!isStopping || isStopped) return
  isStopped = true
  if (process.listenerCount('SIGTERM') === 0) process.exit(terminated())
  process.emit('SIGTERM', 'SIGTERM')
}

/** Makes a stream discard what is written, and report success, so that nothing waits for it. */
function muteStream(stream: NodeJS.WriteStream): void {
  const discard = (_chunk: unknown, encoding?: unknown, callback?: unknown): boolean => {
    const done = typeof encoding === 'function' ? encoding : callback
    if (typeof done === 'function') process.nextTick(done as () => void)
    return true
  }
  stream.write = discard as typeof stream.write
  // A writer that waits for `drain` goes on.
  process.nextTick(() => stream.emit('drain'))
}
