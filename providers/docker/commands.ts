/** Commands in a running container, for `ctx.run` and `ctx.spawn`. */
import type { Readable } from 'node:stream'
import { sleep } from '../../src/core/time.ts'
import { demultiplexOutput } from './demux.ts'
import type { DockerCaller } from './docker-caller.ts'

export interface DockerCommand {
  readonly command: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string | undefined
  readonly onText: (text: string, isStdout: boolean) => void
}

export interface DockerCommandRun {
  /** Resolves with the exit code when all output was read; rejects when the engine does not know the command any more. */
  readonly ended: Promise<number>
  /** Stops reading its output. The command runs on. */
  disconnect(): void
}

/** If the connection to a command was lost, the engine is asked at this interval whether the command has ended, in ms. */
const EXIT_POLL_INTERVAL = 250

export async function executeInContainer(
  engine: DockerCaller,
  container: string,
  { command, env, cwd, onText }: DockerCommand,
  signal: AbortSignal,
): Promise<DockerCommandRun> {
  const exec = await engine.call(
    `run '${command[0]}'`,
    (docker, abortSignal) =>
      docker.getContainer(container).exec({
        Cmd: [...command],
        Env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
        ...(cwd && { WorkingDir: cwd }),
        AttachStdout: true,
        AttachStderr: true,
        abortSignal,
      }),
    { signal },
  )
  // Not tried again: the command may have been started although the answer was lost.
  const stream = (await engine.call(`run '${command[0]}'`, () => exec.start({}), {
    signal,
    retryMs: 0,
  })) as unknown as Readable
  const read = demultiplexOutput(stream, onText)
  return {
    ended: read.then(() => waitForExitCode(engine, exec.id, signal)),
    disconnect: () => stream.destroy(),
  }
}

/** The output ends with the command or with the connection. Only the engine knows which of them has ended. */
async function waitForExitCode(
  engine: DockerCaller,
  exec: string,
  signal: AbortSignal,
): Promise<number> {
  for (;;) {
    const { Running, ExitCode } = await engine.call(
      'look at a command',
      (docker, abortSignal) => docker.getExec(exec).inspect({ abortSignal }),
      { signal, retryMs: Number.POSITIVE_INFINITY },
    )
    if (!Running) return ExitCode ?? 0
    await sleep(EXIT_POLL_INTERVAL, signal)
  }
}
