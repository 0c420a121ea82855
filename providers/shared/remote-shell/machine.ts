/** Another machine, as an instance sees it: it opens shells there. Types only. */
import type { Readable, Writable } from 'node:stream'

/** A shell on the machine. It reads a script from its standard input; the rest of the input is for that script. */
export interface RemoteShell {
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
  /** Resolves with the exit code: 128 plus the number of the signal if it was killed; undefined if the connection was lost. */
  readonly exit: Promise<number | undefined>
  /** Closes the connection: the script reads the end of its input, and its output is dropped. */
  destroy(): void
}

export interface RemoteMachine {
  /** The name of the host, for messages. */
  readonly name: string
  /** @throws ManyhostError MANYHOST_START_FAILED */
  openShell(): Promise<RemoteShell>
}
