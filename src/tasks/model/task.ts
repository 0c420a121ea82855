/**
 * What a task is. It has the thirty fields of HyperShell's rows: in camelCase here, and under HyperShell's names in snake_case in
 * the store, in filters and in JSON. A few fields are our own, and are marked so.
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

/** The given kind, or all kinds. */
export function selectKinds(kind: TaskKind | undefined): readonly TaskKind[] {
  return kind === undefined ? TASK_KINDS : [kind]
}

/** A task as it is given. All other fields of a task get their values on its way through the queue. */
export interface NewTask {
  /** The line as it was given, before any template. */
  readonly args: string
  /** Ours: absent for a shell command. */
  readonly request?: TaskRequest
  /** Groups run one after the other, in ascending order. @default 0 */
  readonly group?: number
  readonly cores?: number
  /** Bytes. */
  readonly memory?: number
  /** Milliseconds that one attempt may take. */
  readonly timeout?: number
  readonly tag?: Tags
  /** Ours: the template that `args` is put into, `convert {} {-}.png`. @default `args` is the command */
  readonly template?: string
  /** Ours: the command that `template` made of `args` when the task was accepted. */
  readonly command?: string
  /** Ours: the folder that the task runs in. @default the folder of its runner */
  readonly cwd?: string
  /** Ours: absolute path of the shell that runs the command, as `shell -c command`. @default that of its runner, `/bin/sh` */
  readonly shell?: string
  /** Ours: added to the environment of its runner. */
  readonly env?: Readonly<Record<string, string>>
  /** Ours: id of the run that the task belongs to. @default any server of the store may run it */
  readonly batch?: string
}

/** Times are milliseconds since 1970. A field is `null` as long as its value is not known. */
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
  /** The runner that runs the task, and its machine. */
  readonly clientId: string | null
  readonly clientHost: string | null
  /** The command that is run: the template with `args`. Before the run it is `null` where it is `args`, or the runner makes it. */
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
  /** Ours: a fencing token. It grows with each claim of this row; an outcome with an older fence is refused. */
  readonly fence: number
  /** Ours, as in `NewTask` when the task was accepted. An empty `batch`: any server of the store may run the task. */
  readonly batch: string
  readonly cwd: string | null
  readonly template: string | null
  readonly shell: string | null
  readonly env: Readonly<Record<string, string>> | null
  /** Ours: how often a task is tried in all, as the server says that ran it last. */
  readonly attempts: number | null
  /** Ours: the output was kept. Without a path in `outpath` or `errpath`, the task wrote nothing there. */
  readonly captured: boolean
}

/** The outcome of one attempt. `fence` is that of the claim. */
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
