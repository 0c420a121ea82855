/** An instance on an agent's machine, as the agent's connection and the handlers of the hub call it. */
import type { Exit, ListenOn } from '../../src/core/provider.ts'

export interface HostedInstance {
  readonly id: string
  readonly hasEnded: boolean
  /** Whether the agent must keep the instance when the agent returns. */
  readonly shouldKeep: boolean
  /** The instance has written `text`. */
  addOutput(text: string): void
  /** Runs the startup function of the service. The agent has asked for it, and waits for its end. */
  runStartup(listenOn: ListenOn, env: Record<string, string>): Promise<void>
  /** The agent has reported the end of the instance. */
  onExited(exit: Exit): void
  /** The agent has returned with the instance. */
  onAgentReturned(): void
  /** The agent is gone, or has returned without the instance. */
  onAgentLost(why: string): void
  /** The agent wants to leave. */
  announceLeaving(why: string): void
  /** Resolves when nothing of the instance is left. */
  stop(grace: number): Promise<void>
}
