/** One instance on another machine that is reached by shells: its commands, its address and the connections to it. */
import type { Pool } from 'undici'
import { ManyhostError } from '../../../src/core/errors.ts'
import type {
  Exit,
  ListenOn,
  Running,
  StartSpec,
  StartupContext,
} from '../../../src/core/provider.ts'
import { resolveWithin } from '../../../src/core/time.ts'
import { listenEnvironment } from '../endpoint.ts'
import { exitOfCode } from '../exit.ts'
import { InstanceLifecycle, type OutputListener } from '../instance-lifecycle.ts'
import { forwardText } from '../output.ts'
import { StopDeadline } from '../stop-deadline.ts'
import { downloadByShell, readFirstLine, uploadByShell } from './copy.ts'
import type { RemoteMachine, RemoteShell } from './machine.ts'
import { leashScript, sendScript } from './shell.ts'

/** How long the last output of a command that has ended may take, while other processes hold its pipes, in ms. */
const OUTPUT_TIMEOUT = 250

/** The part of a machine that one instance has until its end. */
export interface RemoteAllocation {
  readonly machine: RemoteMachine
  readonly listenOn: ListenOn
  readonly address: string
  readonly dispatcher: Pool
  /** Environment of all commands, besides the environment of the service. */
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string | undefined
  /** Names the session in the environment of all processes. */
  readonly marker: string
  /** Resolves with the reason when the allocation is lost. */
  readonly lost: Promise<Exit>
  /** Resolves with the reason when the allocation will be lost soon. */
  readonly leaving?: Promise<string>
  /** Tries once whether the server accepts a connection. */
  accepts(signal: AbortSignal): Promise<void>
  /** Finds a better reason for an end than the one that was seen, such as too little memory, or a node that failed. */
  explain?(exit: Exit): Promise<Exit>
  /** Gives the allocation back. When it resolves, nothing of the instance is left. Never rejects. */
  release(): Promise<void>
}

export class RemoteShellInstance implements Running {
  readonly dispatcher: Pool
  readonly address: string
  readonly leaving?: Promise<string>
  readonly #lifecycle: InstanceLifecycle
  readonly #spec: StartSpec
  readonly #allocation: RemoteAllocation
  readonly #env: Record<string, string>
  readonly #shells = new Set<RemoteShell>()
  readonly #stopDeadline = new StopDeadline(() => this.#signal('KILL'))
  #lastExit: Exit | undefined

  constructor(spec: StartSpec, allocation: RemoteAllocation) {
    this.#spec = spec
    this.#lifecycle = new InstanceLifecycle(spec)
    this.#allocation = allocation
    this.dispatcher = allocation.dispatcher
    this.address = allocation.address
    if (allocation.leaving) this.leaving = allocation.leaving
    this.#env = {
      ...allocation.env,
      ...spec.env,
      ...listenEnvironment(allocation.listenOn),
      MANYHOST_INSTANCE: spec.id,
    }
    void allocation.lost.then((exit) => {
      if (this.#lifecycle.state === 'up') this.#end(exit)
      else this.#signal('KILL')
    })
  }

  get exited(): Promise<Exit> {
    return this.#lifecycle.exited
  }

  /** Resolves when nothing of it is left. */
  get gone(): Promise<void> {
    return this.#lifecycle.gone
  }

  /** When it rejects, call `stop`. */
  begin(signal: AbortSignal): Promise<void> {
    return this.#lifecycle.runStart(signal, () => this.#start())
  }

  async #start(): Promise<void> {
    // A service may have both: the function prepares what the command then serves.
    await this.#lifecycle.runStartupFunction(this.#context(), this.#allocation.listenOn)
    const [command, ...args] = this.#spec.command ?? []
    if (command !== undefined) await this.#spawn(command, args)
  }

  #context(): StartupContext {
    const { machine, cwd } = this.#allocation
    return {
      env: this.#env,
      signal: this.#lifecycle.signal,
      run: (command, ...args) => this.#run(command, args),
      spawn: (command, ...args) => this.#spawn(command, args),
      upload: (local, remote) => uploadByShell(machine, local, remote, cwd),
      download: (remote, local) => downloadByShell(machine, remote, local, cwd),
      log: (text) => this.#lifecycle.writeOutput(`${text}\n`),
    }
  }

  async #spawn(command: string, args: readonly string[]): Promise<void> {
    const { end } = await this.#launch(command, args, 'dies', (text) =>
      this.#lifecycle.writeOutput(text),
    )
    void end.then((exit) => {
      this.#lastExit = exit
      if (this.#lifecycle.state === 'up') this.#end(exit)
    })
  }

  #run(command: string, args: readonly string[]): Promise<string> {
    return this.#lifecycle.runCommand([command, ...args], async (onText) => {
      const { end } = await this.#launch(command, args, 'stays', onText)
      return (await end).detail
    })
  }

  /** Resolves when the command was started, with a promise of its end. @throws ManyhostError MANYHOST_START_FAILED */
  async #launch(
    command: string,
    args: readonly string[],
    groupOnExit: 'dies' | 'stays',
    onText: OutputListener,
  ): Promise<{ readonly end: Promise<Exit> }> {
    // A startup function that ignores its signal must not start anything after the end.
    this.#lifecycle.signal.throwIfAborted()
    const { machine, cwd, marker } = this.#allocation
    const shell = await machine.openShell()
    this.#shells.add(shell)
    shell.stdin.on('error', () => {})
    void shell.exit.then(() => this.#shells.delete(shell))
    if (this.#lifecycle.signal.aborted) shell.destroy()
    const { id } = this.#spec
    sendScript(
      shell.stdin,
      leashScript({ command, args, cwd, env: this.#env, id, marker, groupOnExit }),
    )
    forwardText(shell.stderr, (text) => onText(text, false))
    const first = await readFirstLine(shell.stdout)
    if (!first.startsWith('@')) {
      this.#lifecycle.signal.throwIfAborted()
      const why = first.startsWith('!') ? first.slice(1) : await this.#describeSilence(shell, first)
      shell.destroy()
      throw new ManyhostError('MANYHOST_START_FAILED', `${why} (on ${machine.name})`, {
        service: this.#spec.service,
      })
    }
    forwardText(shell.stdout, (text) => onText(text, true))
    return { end: this.#endOf(shell) }
  }

  async #describeSilence(shell: RemoteShell, output: string): Promise<string> {
    const code = await resolveWithin(OUTPUT_TIMEOUT, shell.exit)
    const ended = code === undefined ? 'its connection was lost' : `it ended with exit code ${code}`
    return `a shell did not start the command: ${ended}${output && `, its output: '${output.slice(0, 200)}'`}`
  }

  async #endOf(shell: RemoteShell): Promise<Exit> {
    const drained = (stream: RemoteShell['stdout']): Promise<void> =>
      new Promise((resolve) => {
        if (stream.readableEnded || stream.destroyed) resolve()
        stream.once('close', resolve)
        stream.once('end', resolve)
      })
    const all = Promise.all([drained(shell.stdout), drained(shell.stderr)])
    const code = await shell.exit
    await resolveWithin(OUTPUT_TIMEOUT, all)
    shell.destroy()
    return exitOfShell(code)
  }

  accepts(signal: AbortSignal): Promise<void> {
    return this.#allocation.accepts(signal)
  }

  stop(grace: number): Promise<void> {
    if (this.#lifecycle.requestStop()) {
      if (grace > 0) this.#signal('TERM')
      void Promise.all([...this.#shells].map((shell) => shell.exit)).then(async () => {
        // The reaction to the exit of a command sets `#lastExit` in a later turn of the promises.
        await Promise.resolve()
        const detail = this.#lastExit ? `: ${this.#lastExit.detail}` : ''
        this.#settleExit({ reason: 'stopped', detail: `stopped${detail}` })
      })
    }
    this.#stopDeadline.shorten(grace)
    return this.gone
  }

  #signal(name: 'TERM' | 'KILL'): void {
    for (const shell of this.#shells) {
      if (name === 'KILL') shell.stdin.end()
      else shell.stdin.write(`${name}\n`)
    }
  }

  /** The instance has ended by itself. */
  #end(exit: Exit): void {
    this.#signal('KILL')
    this.#settleExit(this.#allocation.explain?.(exit) ?? exit)
  }

  #settleExit(exit: Exit | Promise<Exit>): void {
    this.#lifecycle.markEnded(exit, (error) => this.#cleanUp(error))
  }

  async #cleanUp(error: ManyhostError): Promise<void> {
    await Promise.allSettled([this.dispatcher.destroy(error), this.#allocation.release()])
    this.#stopDeadline.cancel()
    for (const shell of this.#shells) shell.destroy()
    this.#lifecycle.markGone()
  }
}

function exitOfShell(code: number | undefined): Exit {
  return code === undefined
    ? { reason: 'lost', detail: 'the connection to its machine was lost' }
    : exitOfCode(code)
}
