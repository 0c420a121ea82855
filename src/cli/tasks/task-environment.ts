/** Where the tasks of a batch run: the flags that choose it, and what comes of them. */
import type { Provider } from '../../core/provider.ts'
import type { Session } from '../../index.ts'

export interface SshFlags {
  readonly ssh?: readonly string[]
  readonly sshArgs?: string
}

export interface TaskEnvironmentFlags extends SshFlags {
  readonly fleet?: string
  readonly feed?: boolean
  readonly provider?: string
  readonly sshGroup?: string
  readonly launcher?: string
  readonly mpi?: boolean
  readonly bind?: string
  readonly hubTimeout?: number
  readonly insecure?: boolean
  readonly tlsCert?: string
  readonly tlsKey?: string
  readonly initSize?: number
  readonly autoscaling?: string | true
}

/** Options of `runCluster`, and the end of what they refer to. */
export interface TaskEnvironment {
  readonly options: {
    readonly session?: Session
    readonly provider?: Provider
    readonly runners?: number
    readonly runner?: readonly string[]
  }
  /** Rejects when no machine is left that could run a task. */
  readonly failed?: Promise<never>
  close(): Promise<void>
}

/** Shows one line to the user. */
export type ReportLine = (text: string) => void
