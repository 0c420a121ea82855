/** One instance on another machine: its commands, its address and the connections to it. */
import type { Pool } from 'undici'
import { ManyhostError } from '../../src/core/errors.ts'
import type { Exit, ListenOn, Running, StartSpec, StartupContext } from '../../src/core/provider.ts'
import { within } from '../../src/core/time.ts'
import { exitOfCode } from '../exit.ts'
import { Grace } from '../grace.ts'
import { Life, type OnText } from '../life.ts'
import { pump } from '../process/output.ts'
import { download, firstLine, upload } from './copy.ts'
import type { Machine, Shell } from './machine.ts'
import { feed, leash } from './shell.ts'

/** How long the last output of a command that has ended may be under way while others hold its pipes, in ms. */
const OUTPUT_PATIENCE = 250

/** The part of a machine that one instance has, for as long as it lives. */
export interface Place {
  readonly machine: Machine
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

export class FarInstance implements Running {
  readonly dispatcher: Pool
  readonly address: string
  readonly leaving?: Promise<string>
  readonly #life: Life
  readonly #spec: StartSpec
  readonly #place: Place
  readonly #env: Record<string, string>
  readonly #shells = new Set<Shell>()
  readonly #grace = new Grace(() => this.#signal('KILL'))
  #lastExit: Exit | undefined

  constructor(spec: StartSpec, place: Place) {
    this.#spec = spec
    this.#life = new Life(spec)
    this.#place = place
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
      if (this.#life.state === 'up') this.#end(exit)
      else this.#signal('KILL')
    })
  }

  get exited(): Promise<Exit> {
    return this.#life.exited
  }

  /** Resolves when nothing of it is left. */
  get gone(): Promise<void> {
    return this.#life.gone
  }

  /** When it rejects, `stop` is to be called. */
  begin(signal: AbortSignal): Promise<void> {
    return this.#life.begin(signal, () => this.#start())
  }

  async #start(): Promise<void> {
    // With both, the function prepares what the command then serves.
    await this.#life.prepare(this.#context(), this.#place.listenOn)
    const [command, ...args] = this.#spec.command ?? []
    if (command !== undefined) await this.#spawn(command, args)
  }

  #context(): StartupContext {
    const { machine, cwd } = this.#place
    return {
      env: this.#env,
      signal: this.#life.signal,
      run: (command, ...args) => this.#run(command, args),
      spawn: (command, ...args) => this.#spawn(command, args),
      upload: (local, remote) => upload(machine, local, remote, cwd),
      download: (remote, local) => download(machine, remote, local, cwd),
      log: (text) => this.#life.write(`${text}\n`),
    }
  }

  async #spawn(command: string, args: readonly string[]): Promise<void> {
    const { end } = await this.#launch(command, args, 'dies', (text) => this.#life.write(text))
    void end.then((how) => {
      this.#lastExit = how
      if (this.#life.state === 'up') this.#end(how)
    })
  }

  #run(command: string, args: readonly string[]): Promise<string> {
    return this.#life.run([command, ...args], async (onText) => {
      const { end } = await this.#launch(command, args, 'stays', onText)
      return (await end).detail
    })
  }

  /** Resolves with its end when it was started. @throws ManyhostError MANYHOST_START_FAILED */
  async #launch(
    command: string,
    args: readonly string[],
    rest: 'dies' | 'stays',
    onText: OnText,
  ): Promise<{ readonly end: Promise<Exit> }> {
    // A startup function that does not look at its signal must not start anything behind our back.
    this.#life.signal.throwIfAborted()
    const { machine, cwd, marker } = this.#place
    const shell = await machine.open()
    this.#shells.add(shell)
    shell.stdin.on('error', () => {})
    void shell.exit.then(() => this.#shells.delete(shell))
    if (this.#life.signal.aborted) shell.destroy()
    const { id } = this.#spec
    feed(shell.stdin, leash({ command, args, cwd, env: this.#env, id, marker, rest }))
    pump(shell.stderr, (text) => onText(text, false))
    const first = await firstLine(shell.stdout)
    if (!first.startsWith('@')) {
      this.#life.signal.throwIfAborted()
      const why = first.startsWith('!') ? first.slice(1) : await this.#silence(shell, first)
      shell.destroy()
      throw new ManyhostError('MANYHOST_START_FAILED', `${why} (on ${machine.name})`, {
        service: this.#spec.service,
      })
    }
    pump(shell.stdout, (text) => onText(text, true))
    return { end: this.#endOf(shell) }
  }

  async #silence(shell: Shell, said: string): Promise<string> {
    const code = await within(OUTPUT_PATIENCE, shell.exit)
    const ended = code === undefined ? 'its connection was lost' : `it ended with exit code ${code}`
    return `a shell could not be used: ${ended}${said && `, saying '${said.slice(0, 200)}'`}`
  }

  async #endOf(shell: Shell): Promise<Exit> {
    const drained = (stream: Shell['stdout']): Promise<void> =>
      new Promise((resolve) => {
        if (stream.readableEnded || stream.destroyed) resolve()
        stream.once('close', resolve)
        stream.once('end', resolve)
      })
    const all = Promise.all([drained(shell.stdout), drained(shell.stderr)])
    const code = await shell.exit
    await within(OUTPUT_PATIENCE, all)
    shell.destroy()
    return exitOf(code)
  }

  accepts(signal: AbortSignal): Promise<void> {
    return this.#place.accepts(signal)
  }

  stop(grace: number): Promise<void> {
    if (this.#life.stop()) {
      if (grace > 0) this.#signal('TERM')
      void Promise.all([...this.#shells].map((shell) => shell.exit)).then(async () => {
        // The last exit is told by who waits for it, in a later turn.
        await Promise.resolve()
        const how = this.#lastExit ? `: ${this.#lastExit.detail}` : ''
        this.#settle({ reason: 'stopped', detail: `stopped${how}` })
      })
    }
    this.#grace.shorten(grace)
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
    this.#settle(this.#place.explain?.(exit) ?? exit)
  }

  #settle(exit: Exit | Promise<Exit>): void {
    this.#life.end(exit, (error) => this.#clear(error))
  }

  async #clear(error: ManyhostError): Promise<void> {
    await Promise.allSettled([this.dispatcher.destroy(error), this.#place.release()])
    this.#grace.cancel()
    for (const shell of this.#shells) shell.destroy()
    this.#life.leave()
  }
}

/** A shell tells a signal by 128 and its number. */
function exitOf(code: number | undefined): Exit {
  return code === undefined
    ? { reason: 'lost', detail: 'the connection to its machine was lost' }
    : exitOfCode(code)
}
