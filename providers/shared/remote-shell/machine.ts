/** A machine elsewhere, as an instance sees it: something that opens shells there. Types only. */
import type { Readable, Writable } from 'node:stream'

/** A shell on the machine that reads a script, and then whatever the script makes of its standard input. */
export interface RemoteShell {
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
  /** Its exit code, 128 and the signal's number for one that was killed; undefined when that was lost with it. */
  readonly exit: Promise<number | undefined>
  /** Hangs up: the script reads the end of its input, and nothing of it is heard any more. */
  destroy(): void
}

export interface RemoteMachine {
  /** For people: the name of the host. */
  readonly name: string
  /** @throws ManyhostError MANYHOST_START_FAILED */
  openShell(): Promise<RemoteShell>
}
