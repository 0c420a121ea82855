/**
 * What an agent may call over one link to the hub. A link is one of three: the agent's own, for control; one that becomes
 * a tunnel; one for files. The hub learns which it is from the first call.
 */
import { ManyhostError } from '../../src/core/errors.ts'
import type { HostingEnd, Names, PostingEnd } from '../../src/wire/index.ts'
import type { AgentConnection, AgentInfo } from './agent-connection.ts'
import type { FileTransfers } from './file-transfers.ts'
import type { ReceivedTree } from './file-tree.ts'
import type { HostedInstance } from './hosted-instance.ts'
import {
  parseCount,
  parseErrno,
  parseExit,
  parseFields,
  parseListenOn,
  parseText,
  parseTextFields,
  parseTexts,
} from './parse-message.ts'
import type { AgentTunnels } from './tunnels.ts'

/** Longest piece of output, in characters. */
const MAX_LOG_LENGTH = 1_048_576
/** Longest message of an error, in characters. */
const MAX_ERROR_LENGTH = 4_096
const MAX_LABELS = 64
const MAX_CAPABILITIES = 16

/** What the handlers call of the hub. */
export interface AgentHubCalls {
  readonly settings: { readonly beat: number; readonly evictAfter: number }
  readonly tunnels: Pick<
    AgentTunnels,
    'acceptDialled' | 'failOpening' | 'markServerEnded' | 'failOpeningOfAgent'
  >
  readonly transfers: Pick<FileTransfers, 'acceptDialled'>
  admitAgent(po: PostingEnd, info: AgentInfo, fence: unknown): AgentConnection
  reconcileInstances(agent: AgentConnection, reported: ReadonlySet<string>): string[]
  startLeaving(agent: AgentConnection, why: string): void
  assignWaitingStarts(): void
  /** Counts a message of an agent that was evicted before. */
  countFenced(): void
}

export function createHubHandlers(hub: AgentHubCalls, po: PostingEnd, ho: HostingEnd): Names {
  return {
    ...createControlHandlers(hub, po),
    lane: (token: unknown) => hub.tunnels.acceptDialled(ho, parseText(token), po.peer.ident),
    ...createFileHandlers(hub, po, ho),
  }
}

/** Calls over the agent's own link. Each one but the first, `hello`, carries the fence that `hello` answered. */
function createControlHandlers(hub: AgentHubCalls, po: PostingEnd): Names {
  let own: AgentConnection | undefined

  /** The agent of this link. @throws ManyhostError MANYHOST_AGENT_FENCED when it was evicted meanwhile */
  const requireAgent = (fence: unknown): AgentConnection => {
    if (own && !own.isGone && own.fence === fence) {
      own.markHeard()
      return own
    }
    hub.countFenced()
    throw new ManyhostError(
      'MANYHOST_AGENT_FENCED',
      'this agent was evicted, and its instances were given up',
    )
  }
  const requireInstance = (fence: unknown, given: unknown): HostedInstance => {
    const id = parseText(given)
    const found = requireAgent(fence).instances.get(id)
    if (found) return found
    throw new ManyhostError('MANYHOST_AGENT_FENCED', `this agent has no instance ${id}`)
  }

  return {
    hello(message: unknown) {
      const fields = parseFields(message)
      own = hub.admitAgent(po, parseAgentInfo(fields), fields.fence)
      const reported = new Set(parseTexts(fields.instances))
      own.attach(po)
      return {
        fence: own.fence,
        keep: hub.reconcileInstances(own, reported),
        beat: hub.settings.beat,
        evictAfter: hub.settings.evictAfter,
      }
    },
    ready(fence: unknown) {
      requireAgent(fence).markReady()
      hub.assignWaitingStarts()
    },
    load(fence: unknown, load: unknown) {
      requireAgent(fence).load = parseCount(load)
    },
    log(fence: unknown, id: unknown, output: unknown) {
      requireInstance(fence, id).addOutput(parseText(output, MAX_LOG_LENGTH))
    },
    exited(fence: unknown, id: unknown, exit: unknown) {
      requireAgent(fence).instances.get(parseText(id))?.onExited(parseExit(exit))
    },
    startup(fence: unknown, id: unknown, listenOn: unknown, env: unknown) {
      return requireInstance(fence, id).runStartup(parseListenOn(listenOn), parseTextFields(env))
    },
    leave(fence: unknown, why: unknown) {
      hub.startLeaving(requireAgent(fence), parseText(why))
    },
    bye(fence: unknown) {
      const agent = requireAgent(fence)
      agent.evict(`agent ${agent.name} has ended`, 'left')
    },
    lane_failed(fence: unknown, token: unknown, errno: unknown, message: unknown) {
      const text = parseText(message, MAX_ERROR_LENGTH)
      const error = Object.assign(new Error(text), { code: parseErrno(errno) })
      hub.tunnels.failOpening(requireAgent(fence), parseText(token), error)
    },
    lane_ended(fence: unknown, token: unknown, isProper: unknown) {
      hub.tunnels.markServerEnded(requireAgent(fence), parseText(token), isProper === true)
    },
    /** The wire calls this when the link has ended. */
    __hbi_cleanup__(_po: unknown, _ho: unknown, reason: unknown) {
      if (!own) return
      const why = typeof reason === 'string' ? reason : undefined
      const error = new Error(`agent ${own.name} is away: ${why ?? 'it hung up'}`)
      hub.tunnels.failOpeningOfAgent(own, error)
      own.detach(po, why)
    },
  }
}

/** Calls over a link for files: `files` shows a token, `entry` and `finish` bring the files. */
function createFileHandlers(hub: AgentHubCalls, po: PostingEnd, ho: HostingEnd): Names {
  let tree: ReceivedTree | undefined
  const startReceiving = (received: ReceivedTree): void => {
    tree = received
  }
  const callTree =
    (name: 'entry' | 'finish') =>
    (...args: unknown[]): unknown => {
      if (tree) return tree.createHandlers(ho)[name]?.(...args)
      throw new ManyhostError('MANYHOST_WIRE_PROTOCOL', 'the hub has not asked for files')
    }
  return {
    files: (token: unknown) =>
      hub.transfers.acceptDialled(parseText(token), po.peer.ident, { po, ho, startReceiving }),
    entry: callTree('entry'),
    finish: callTree('finish'),
  }
}

function parseAgentInfo(fields: Record<string, unknown>): AgentInfo {
  const labels = parseTextFields(fields.labels)
  const numLabels = Object.keys(labels).length
  if (numLabels > MAX_LABELS) {
    const message = `an agent may have ${MAX_LABELS} labels, got ${numLabels}`
    throw new ManyhostError('MANYHOST_WIRE_PROTOCOL', message)
  }
  return {
    bootId: parseText(fields.boot, 64),
    name: parseText(fields.name, 128),
    maxInstances: Math.floor(parseCount(fields.maxInstances)),
    cpus: parseCount(fields.cpus),
    memory: parseCount(fields.memory),
    labels,
    capabilities: new Set(parseTexts(fields.capabilities).slice(0, MAX_CAPABILITIES)),
    provider: parseText(fields.provider, 64),
  }
}
