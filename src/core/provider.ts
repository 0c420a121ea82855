/** The seam between the control plane and the places where instances run: types only. */
import type { Dispatcher } from 'undici'
import type { AgentEvent } from './events.ts'

/** Where an instance's server must listen. */
export type ListenOn =
  | { readonly host: string; readonly port: number; readonly socketPath?: undefined }
  | { readonly socketPath: string; readonly host?: undefined; readonly port?: undefined }

/** What a startup function is given; every call acts on the machine that the provider gave. */
export interface StartupContext {
  /** Environment of everything that `run` and `spawn` start; may be added to. */
  readonly env: Record<string, string>
  /** Aborted when the start is given up or the instance stops. */
  readonly signal: AbortSignal
  /** Runs a command to its end. A non-zero exit throws `MANYHOST_RUN_FAILED`. Resolves with its standard output. */
  run(command: string, ...args: string[]): Promise<string>
  /** Starts a command that lives as long as the instance; its exit ends the instance. */
  spawn(command: string, ...args: string[]): Promise<void>
  /** Copies a file or folder of this machine to the instance's. */
  upload(local: string, remote: string): Promise<void>
  /** Copies a file or folder of the instance's machine to this one. */
  download(remote: string, local: string): Promise<void>
  /** Adds a line to the instance's output. */
  log(text: string): void
}

export type Startup = (context: StartupContext, listenOn: ListenOn) => void | Promise<void>

/** What a startup may ask a provider for. */
export type Capability = 'command' | 'function' | 'image' | 'unix-socket' | 'resources'

/** What to start. Everything a provider does not know is an error at registration, not here. */
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
  /** Requests that the instance will be sent at a time. */
  readonly concurrency: number
  /** Bytes of the head of an answer that its dispatcher takes. @default 65536 */
  readonly headerSize?: number
  /** Takes what the instance writes, as it comes. */
  readonly onOutput: (chunk: string) => void
}

/** Why an instance ended. */
export interface Exit {
  /** Short and of a bounded set, for metrics: `exited`, `killed`, `out-of-memory`, `lost`, `stopped`. */
  readonly reason: string
  /** For people: `exit code 3`, `killed by SIGKILL`. */
  readonly detail: string
}

/** An instance that runs. The dispatcher is all that the data plane knows of it. */
export interface Running {
  readonly dispatcher: Dispatcher
  /** Resolves once, with the reason, when the instance has ended for whatever cause. Never rejects. */
  readonly exited: Promise<Exit>
  /**
   * Resolves with the reason when its machine is about to go: it is to be drained and replaced. Absent, or for ever
   * pending, where nobody announces that.
   */
  readonly leaving?: Promise<string>
  /** Where it listens, for people. */
  readonly address?: string
  /** Requests that it takes at a time, where that differs from `StartSpec.concurrency`. */
  readonly slots?: number
  /**
   * Tries once whether the server accepts a connection; rejects when not. Absent: it is taken as accepting.
   */
  accepts?(signal: AbortSignal): Promise<void>
  /**
   * Ends the instance: politely, and after `grace` ms by force. Idempotent; a second call may shorten the grace.
   * Resolves when nothing of it is left.
   */
  stop(grace: number): Promise<void>
}

export interface Provider {
  readonly name: string
  readonly capabilities: ReadonlySet<Capability>
  /** Instances that it can have at most, where it knows: sizes are held below it, and it is the size at first. */
  readonly limit?: number | undefined
  /**
   * Instances of the service that it could have at this moment, where that changes by itself, as machines come and go.
   * Asked at each turn of the cluster's loop, so it answers at once; no start is tried beyond it.
   */
  available?(service: string): number
  /**
   * Calls back when `limit` or `available` may have grown, as when a machine has dialled in: whoever waits for a place
   * need not wait for the next turn of the loop. It may call back too often, never too late. The function that is
   * returned unsubscribes. Absent where nothing grows by itself.
   */
  onAvailable?(listener: () => void): () => void
  /**
   * Starts one instance. Resolves when its server was started, not when it is ready: the cluster finds that out.
   * Rejects, having cleaned up, when it could not or `signal` was aborted.
   */
  start(spec: StartSpec, options: { signal: AbortSignal }): Promise<Running>
  /** Tells what becomes of its agents; the session says it as its event `agent`. The function returned ends that. */
  onAgent?(listener: (event: AgentEvent) => void): () => void
  /** Ends what the provider holds for all its instances; called when the session has closed. */
  close?(): Promise<void>
}
