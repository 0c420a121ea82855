/** What a cluster gets from its session, and the options of its end. */
import type { Emitter, SessionEvents } from '../core/events.ts'

export interface CloseOptions {
  /** Ends running and waiting requests at once, with an error. @default false */
  readonly force?: boolean
  /** Milliseconds that running and waiting requests may take to end. @default drainTimeout */
  readonly timeout?: number
}

export interface ClusterParts {
  readonly emitter: Emitter<SessionEvents>
  /** Makes an id for an instance, unique over all sessions. */
  readonly newId: () => string
  /** Called when the wanted size, the instances or the load have changed: the session may have to share its budget anew. */
  readonly onDemandChange: () => void
  /** How many more instances the session may have now. */
  readonly availableInstances: () => number
  /** Called when the cluster was closed and nothing of it is left. */
  readonly onClosed: () => void
}
