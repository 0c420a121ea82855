/**
 * What a task is. The thirty fields of the ancestor's row (HyperShell) under their names, in camelCase here and in
 * snake_case in the store, in filters and in JSON; and few of our own, which are marked.
 */

/**
 * Values that a tag may have; keys and text of `[A-Za-z0-9_.+-]`, 1 to 120 characters. A whole number beyond 2^53 comes
 * back as a bigint, which has all of its digits.
 */
export type TagValue = string | number | bigint | boolean | null

export type Tags = Readonly<Record<string, TagValue>>

/** A request to a virtual URL, where the task is one. */
export interface TaskRequest {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | null
}

export type TaskKind = 'shell' | 'request'

export const TASK_KINDS: readonly TaskKind[] = ['shell', 'request']

/** Those that are meant. */
export function selectKinds(kind: TaskKind | undefined): readonly TaskKind[] {
  return kind === undefined ? TASK_KINDS : [kind]
}

/** What is handed in. All else of a task follows from its way through the queue. */
export interface NewTask {
  /** The line as it was handed in, before any template. */
  readonly args: string
  /** Ours: absent for a shell command. */
  readonly request?: TaskRequest
  /** Groups are worked off in ascending order. @default 0 */
  readonly group?: number
  readonly cores?: number
  /** Bytes. */
  readonly memory?: number
  /** Milliseconds that one attempt may take. */
  readonly timeout?: number
  readonly tag?: Tags
  /** Ours: what `args` is made into, `convert {} {-}.png`. @default `args` is the command */
  readonly template?: string
  /** Ours: the command that `template` made of `args` when the task was accepted. */
  readonly command?: string
  /** Ours: the folder that it runs in. @default that of its runner */
  readonly cwd?: string
  /** Ours: absolute path of what runs the command, as `shell -c command`. @default that of its runner, `/bin/sh` */
  readonly shell?: string
  /** Ours: added to the environment of its runner. */
  readonly env?: Readonly<Record<string, string>>
  /** Ours: id of the run that works it off. @default whoever serves the store */
  readonly batch?: string
}

/** Times are milliseconds since 1970; `null` is what is not known yet. */
export interface Task {
  readonly id: string
  readonly group: number
  readonly args: string
  readonly submitId: string
  readonly submitTime: number
  readonly submitHost: string
  readonly cores: number | null
  readonly memory: number | null
  readonly coresMax: number | null
  readonly memoryMax: number | null
  /** Milliseconds. */
  readonly timeout: number | null
  readonly serverId: string | null
  readonly serverHost: string | null
  readonly scheduleTime: number | null
  /** The instance that runs it, and its machine. */
  readonly clientId: string | null
  readonly clientHost: string | null
  /** What is run, or was: `args` through the template. Until then `null` where that is `args`, or the runner's to say. */
  readonly command: string | null
  readonly startTime: number | null
  readonly completionTime: number | null
  /** -1 cancelled, -2 template, -3 resources; a request: 0 for a status below 400, else the status. */
  readonly exitStatus: number | null
  readonly outpath: string | null
  readonly errpath: string | null
  readonly csvpath: string | null
  /** 1, 2, ...; each attempt is a row of its own. */
  readonly attempt: number
  readonly retried: boolean
  /** Milliseconds from submission to start. */
  readonly waited: number | null
  /** Milliseconds from start to completion. */
  readonly duration: number | null
  readonly previousId: string | null
  readonly nextId: string | null
  readonly tag: Tags
  /** Ours. */
  readonly request: TaskRequest | null
  /** Ours: grows with each claim of this row; an outcome that carries an older one is refused (a fencing token). */
  readonly fence: number
  /** Ours, as they were asked for when the task was accepted; see `NewTask`. An empty `batch`: whoever serves the store. */
  readonly batch: string
  readonly cwd: string | null
  readonly template: string | null
  readonly shell: string | null
  readonly env: Readonly<Record<string, string>> | null
  /** Ours: how often the server that ran it last tries a task in all. */
  readonly attempts: number | null
  /** Ours: what it wrote was kept; where there is no path then, it wrote nothing. */
  readonly captured: boolean
}

/** What running one attempt came to; `fence` is the claim's. */
export interface TaskOutcome {
  readonly id: string
  readonly fence: number
  readonly exitStatus: number
  readonly command: string | null
  readonly clientId: string | null
  readonly clientHost: string | null
  readonly startTime: number | null
  readonly completionTime: number
  readonly coresMax?: number | null
  readonly memoryMax?: number | null
  readonly outpath?: string | null
  readonly errpath?: string | null
  readonly csvpath?: string | null
  readonly captured?: boolean
}
