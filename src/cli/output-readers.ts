/**
 * What becomes of a command when the reader of its output goes away, as `head` does: one rule for each command, in its entry of
 * the table of commands. Only a listing ends with 0, for then all of its work has been done.
 */
import { describeError } from '../core/errors.ts'
import { EXIT } from './exit.ts'

/**
 * - `goOn`: the work goes on without output, and the exit code is the work's. The default.
 * - `end`: it was a listing, and who read it has seen enough.
 * - `stop`: there is nothing to do but to write, or nobody else would hear of trouble: as at SIGTERM, with a code that is not 0.
 * - `stopOnEither`: the same, also when it is the reader of standard error.
 */
export type UnreadRule = 'goOn' | 'end' | 'stop' | 'stopOnEither'

/** The reader has gone; all else, such as a disk that is full, is trouble with the output. */
const READER_GONE_CODES: ReadonlySet<string | undefined> = new Set([
  'EPIPE',
  'ECONNRESET',
  'EIO',
  'ENOTCONN',
  'ERR_STREAM_DESTROYED',
])

let unreadRule: UnreadRule = 'goOn'
let isStopped = false

/** Of the command that runs now. */
export function setUnreadRule(given: UnreadRule): void {
  unreadRule = given
}

/** Whether a reader that went away has stopped the command: then it does not end with 0. */
export function isStoppedUnread(): boolean {
  return isStopped
}

/** To be called once, before anything is written. @param terminated answers the code of a command that SIGTERM ends */
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
    process.stderr.write(`manyhost: the output: ${describeError(error)}\n`)
    process.exit(EXIT.failure.number)
  }
  const stops = unreadRule === 'stopOnEither' || (isOutput && unreadRule !== 'goOn')
  if (isOutput) {
    const why = isGone ? 'nobody reads the output any more' : `the output: ${describeError(error)}`
    const what = stops ? 'it ends, as at SIGTERM' : 'the work goes on without it'
    process.stderr.write(`manyhost: ${why}: ${what}\n`)
  }
  // A second signal would be one that does not want to wait.
  if (!stops || isStopped) return
  isStopped = true
  if (process.listenerCount('SIGTERM') === 0) process.exit(terminated())
  process.emit('SIGTERM', 'SIGTERM')
}

/** Takes what is written, and writes nothing: who waits for it goes on. */
function muteStream(stream: NodeJS.WriteStream): void {
  const taken = (_chunk: unknown, encoding?: unknown, callback?: unknown): boolean => {
    const done = typeof encoding === 'function' ? encoding : callback
    if (typeof done === 'function') process.nextTick(done as () => void)
    return true
  }
  stream.write = taken as typeof stream.write
  // Who waits for room has it.
  process.nextTick(() => stream.emit('drain'))
}
