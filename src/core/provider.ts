/** The interface between the control plane and the providers, which run instances. Types only. */
import type { Dispatcher } from 'undici'
import type { AgentEvent } from './events.ts'

/** Where the server of an instance must listen. */
export type ListenOn =
  | { readonly host: string; readonly port: number; readonly socketPath?: undefined }
  | { readonly socketPath: string; readonly host?: undefined; readonly port?: undefined }

/** The first argument of a startup function. Every call acts on the machine of the instance. */
export interface StartupContext {
  /** Environment of the commands of `run` and `spawn`. The function may add to it. */
  readonly env: Record<string, string>
  /** Aborted when the start is cancelled or the instance stops. */
  readonly signal: AbortSignal
  /** Runs a command to its end and resolves with its standard output. Rejects with `MANYHOST_RUN_FAILED` if it fails. */
  run(command: string, ...args: string[]): Promise<string>
  /** Starts a command that lives as long as the instance; its exit ends the instance. */
  spawn(command: string, ...args: string[]): Promise<void>
  /** Copies a file or folder of this machine to the machine of the instance. */
  upload(local: string, remote: string): Promise<void>
  /** Copies a file or folder of the instance's machine to this one. */
  download(remote: string, local: string): Promise<void>
  /** Adds a line to the instance's output. */
  log(text: string): void
}

export type Startup = (context: StartupContext, listenOn: ListenOn) => void | Promise<void>

/** What a startup may ask a provider for. */
export type Capability = 'command' | 'function' | 'image' | 'unix-socket' | 'resources'

/** What to start. A startup that asks for more than the provider's capabilities was refused at registration already. */
export interface StartSpec {
  /** Name of the instance, unique over all sessions of this machine. */
  readonly id: string
  /** Virtual URL of the service. */
  readonly service: string
  readonly command?: readonly string[]
  readonly startup?: Startup
  readonly image?: string
  readonly env: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly labels: Readonly<Record<string, string>>
  readonly resources?: { readonly cpus?: number; readonly memory?: number }
  /** `tcp` (default of the provider) or a unix socket. */
  readonly listen?: 'tcp' | 'unix'
  /** Requests that the instance will get at a time. */
  readonly concurrency: number
  /** Bytes that the head of a response may have. @default 65536 */
  readonly headerSize?: number
  /** Called with each piece of the instance's output. */
  readonly onOutput: (chunk: string) => void
}

/** Why an instance ended. */
export interface Exit {
  /** One of a few words, for metrics: `exited`, `killed`, `out-of-memory`, `lost`, `stopped`. */
  readonly reason: string
  /** For people: `exit code 3`, `killed by SIGKILL`. */
  readonly detail: string
}

/** A running instance. The data plane knows only its dispatcher. */
export interface Running {
  readonly dispatcher: Dispatcher
  /** Resolves with the reason when the instance has ended, whatever the cause is. Never rejects. */
  readonly exited: Promise<Exit>
  /**
   * Resolves with the reason when the machine of the instance is about to be taken away: the instance is then drained and
   * replaced. Absent, or never settled, where that is not announced.
   */
  readonly leaving?: Promise<string>
  /** Where it listens, for people. */
  readonly address?: string
  /** Requests that the instance takes at a time, if that differs from `StartSpec.concurrency`. */
  readonly slots?: number
  /**
   * Tries once whether the server accepts a connection, and rejects if not. Without this function it counts as accepting.
   */
  accepts?(signal: AbortSignal): Promise<void>
  /**
   * Ends the instance: politely at first, and by force after `grace` milliseconds. Idempotent; a second call may shorten the
   * grace. Resolves when nothing of the instance is left.
   */
  stop(grace: number): Promise<void>
}

export interface Provider {
  readonly name: string
  readonly capabilities: ReadonlySet<Capability>
  /** Greatest number of instances, if it is known. No size is greater, and it is the default of `initSize`. */
  readonly limit?: number | undefined
  /**
   * How many instances of the service there could be at this moment, for a provider where that changes by itself, as machines
   * come and go. Called at each turn of the cluster's loop, so it must return at once. No start is tried beyond it.
   */
  available?(service: string): number
  /**
   * Calls back when `limit` or `available` may have grown, for instance when a machine has dialled in, so that a start need not
   * wait for the next turn of the loop. It may call back too often, but never too late. Absent if nothing grows by itself.
   * @returns a function that unsubscribes
   */
  onAvailable?(listener: () => void): () => void
  /**
   * Starts one instance. Resolves when its server was started; the cluster finds out when it is ready. Rejects if the start
   * fails or `signal` is aborted, and has then cleaned up.
   */
  start(spec: StartSpec, options: { signal: AbortSignal }): Promise<Running>
  /** Subscribes to events of its agents, which the session emits as `agent`. @returns a function that unsubscribes */
  onAgent?(listener: (event: AgentEvent) => void): () => void
  /** Releases what the provider holds for all its instances. Called when the session has closed. */
  close?(): Promise<void>
}
