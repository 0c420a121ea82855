/** The output of a container without a terminal: one stream with frames of standard output and of standard error. */
import type { Readable } from 'node:stream'

const HEADER = 8
const STDERR = 2

/** Passes each piece of output on at once: no more than the head of a frame is kept. Resolves at the end of the stream. */
export function demultiplexOutput(
  stream: Readable,
  onText: (text: string, isStdout: boolean) => void,
): Promise<void> {
  const split = createFrameSplitter(onText)
  stream.on('data', split.take)
  return new Promise((resolve) => {
    const done = (): void => {
      split.end()
      resolve()
    }
    // Which of these events comes depends on who has ended the stream.
    stream.once('end', done)
    stream.once('close', done)
    stream.on('error', done)
  })
}

export function createFrameSplitter(onText: (text: string, isStdout: boolean) => void) {
  const decoders = [true, false].map((isStdout) => {
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
    return (bytes?: Buffer): void => {
      const text = bytes ? decoder.decode(bytes, { stream: true }) : decoder.decode()
      if (text !== '') onText(text, isStdout)
    }
  })
  const [stdout, stderr] = decoders as [(bytes?: Buffer) => void, (bytes?: Buffer) => void]
  const head = Buffer.alloc(HEADER)
  let headLength = 0
  let left = 0
  return {
    take(chunk: Buffer): void {
      let at = 0
      while (at < chunk.length) {
        if (left === 0) {
          const copied = chunk.copy(head, headLength, at, at + HEADER - headLength)
          headLength += copied
          at += copied
          if (headLength < HEADER) return
          headLength = 0
          left = head.readUInt32BE(4)
        } else {
          const part = chunk.subarray(at, at + left)
          ;(head[0] === STDERR ? stderr : stdout)(part)
          at += part.length
          left -= part.length
        }
      }
    },
    end(): void {
      stdout()
      stderr()
    },
  }
}
