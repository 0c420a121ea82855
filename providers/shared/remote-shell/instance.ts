/** One instance on another machine: its commands, its address and the connections to it. */
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
import { exitOfCode } from '../exit.ts'
import { InstanceLifecycle, type OutputListener } from '../instance-lifecycle.ts'
import { forwardText } from '../output.ts'
import { StopDeadline } from '../stop-deadline.ts'
import { downloadByShell, readFirstLine, uploadByShell } from './copy.ts'
import type { RemoteMachine, RemoteShell } from './machine.ts'
import { leashScript, sendScript } from './shell.ts'

/** How long the last output of a command that has ended may be under way while others hold its pipes, in ms. */
const OUTPUT_TIMEOUT = 250

/** The part of a machine that one instance has, for as long as it lives. */
export interface RemoteAllocation {
  readonly machine: RemoteMachine
  readonly listenOn: ListenOn
  readonly address: string
  readonly dispatcher: Pool
  /** What all its commands get, beside the service's own. */
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string | undefined
  /** Names the session in the environment of all that is started. */
  readonly marker: string
  /** Resolves when the place is lost, with the reason. */
  readonly lost: Promise<Exit>
  /** Resolves, with the reason, when the place will be lost soon. */
  readonly leaving?: Promise<string>
  /** Tries once whether the server accepts. */
  accepts(signal: AbortSignal): Promise<void>
  /** A better reason for an end than the one that was seen, if there is one: memory, a node that failed. */
  explain?(exit: Exit): Promise<Exit>
  /** Gives the place back; nothing of the instance is left when it resolves. Never rejects. */
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

  constructor(spec: StartSpec, place: RemoteAllocation) {
    this.#spec = spec
    this.#lifecycle = new InstanceLifecycle(spec)
    this.#allocation = place
    this.dispatcher = place.dispatcher
    this.address = place.address
    if (place.leaving) this.leaving = place.leaving
    const { listenOn } = place
    this.#env = {
      ...place.env,
      ...spec.env,
      ...(listenOn.socketPath === undefined
        ? { HOST: listenOn.host, PORT: String(listenOn.port) }
        : { SOCKET_PATH: listenOn.socketPath }),
      // As with all other providers: a startup function reads its instance's name here.
      MANYHOST_INSTANCE: spec.id,
    }
    void place.lost.then((exit) => {
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

  /** When it rejects, `stop` is to be called. */
  begin(signal: AbortSignal): Promise<void> {
    return this.#lifecycle.runStart(signal, () => this.#start())
  }

  async #start(): Promise<void> {
    // With both, the function prepares what the command then serves.
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
    void end.then((how) => {
      this.#lastExit = how
      if (this.#lifecycle.state === 'up') this.#end(how)
    })
  }

  #run(command: string, args: readonly string[]): Promise<string> {
    return this.#lifecycle.runCommand([command, ...args], async (onText) => {
      const { end } = await this.#launch(command, args, 'stays', onText)
      return (await end).detail
    })
  }

  /** Resolves with its end when it was started. @throws ManyhostError MANYHOST_START_FAILED */
  async #launch(
    command: string,
    args: readonly string[],
    rest: 'dies' | 'stays',
    onText: OutputListener,
  ): Promise<{ readonly end: Promise<Exit> }> {
    // A startup function that does not look at its signal must not start anything behind our back.
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
      leashScript({ command, args, cwd, env: this.#env, id, marker, groupOnExit: rest }),
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

  async #describeSilence(shell: RemoteShell, said: string): Promise<string> {
    const code = await resolveWithin(OUTPUT_TIMEOUT, shell.exit)
    const ended = code === undefined ? 'its connection was lost' : `it ended with exit code ${code}`
    return `a shell could not be used: ${ended}${said && `, saying '${said.slice(0, 200)}'`}`
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
        // The last exit is told by who waits for it, in a later turn.
        await Promise.resolve()
        const how = this.#lastExit ? `: ${this.#lastExit.detail}` : ''
        this.#settleExit({ reason: 'stopped', detail: `stopped${how}` })
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

  /** It has ended by itself. */
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

/** A shell tells a signal by 128 and its number. */
function exitOfShell(code: number | undefined): Exit {
  return code === undefined
    ? { reason: 'lost', detail: 'the connection to its machine was lost' }
    : exitOfCode(code)
}
