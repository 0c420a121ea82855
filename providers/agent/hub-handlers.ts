/** What an agent may call over one link to the hub. A link is an agent's own, a lane on its way, or one for files. */
import { ManyhostError } from '../../src/core/errors.ts'
import type { HostingEnd, Names, PostingEnd } from '../../src/wire/index.ts'
import type { AgentConnection, AgentInfo } from './agent-connection.ts'
import type { AgentHub } from './agent-hub.ts'
import type { ReceivedTree } from './file-tree.ts'
import {
  parseCount,
  parseExit,
  parseFields,
  parseListenOn,
  parseText,
  parseTextFields,
  parseTexts,
} from './parse-message.ts'

/** Longest piece of output, in characters. */
const MAX_LOG_LENGTH = 1_048_576
/** Labels of an agent. */
const MAX_LABELS = 64

export function createHubHandlers(hub: AgentHub, po: PostingEnd, ho: HostingEnd): Names {
  let own: AgentConnection | undefined
  let landing: ReceivedTree | undefined

  /** The agent of this link, if it is the one that it believes to be. */
  const member = (fence: unknown): AgentConnection => {
    if (own && !own.isGone && own.fence === fence) {
      own.markHeard()
      return own
    }
    hub.countFenced()
    throw new ManyhostError(
      'MANYHOST_AGENT_FENCED',
      'this agent was evicted: what it had is not its own any more',
    )
  }
  const instance = (fence: unknown, id: unknown) => {
    const found = member(fence).instances.get(parseText(id))
    if (found) return found
    throw new ManyhostError('MANYHOST_AGENT_FENCED', `no instance ${parseText(id)} is known here`)
  }
  const landed =
    (name: 'entry' | 'finish') =>
    (...args: unknown[]): unknown => {
      if (!landing) throw new ManyhostError('MANYHOST_WIRE_PROTOCOL', 'no files were asked for')
      return landing.createHandlers(ho)[name]?.(...args)
    }

  return {
    hello(said: unknown) {
      const given = parseFields(said)
      own = hub.admitAgent(po, parseAgentInfo(given), parseFields(given))
      const there = new Set(parseTexts(given.instances))
      own.attach(po)
      return {
        fence: own.fence,
        keep: hub.reconcileInstances(own, there),
        beat: hub.settings.beat,
        evictAfter: hub.settings.evictAfter,
      }
    },
    ready(fence: unknown) {
      member(fence).markReady()
      hub.assignWaitingStarts()
    },
    load(fence: unknown, load: unknown) {
      member(fence).load = parseCount(load)
    },
    log(fence: unknown, id: unknown, output: unknown) {
      instance(fence, id).addOutput(parseText(output, MAX_LOG_LENGTH))
    },
    exited(fence: unknown, id: unknown, how: unknown) {
      member(fence).instances.get(parseText(id))?.onExited(parseExit(how))
    },
    startup(fence: unknown, id: unknown, where: unknown, env: unknown) {
      return instance(fence, id).runStartup(parseListenOn(where), parseTextFields(env))
    },
    leave(fence: unknown, why: unknown) {
      hub.startLeaving(member(fence), parseText(why))
    },
    bye(fence: unknown) {
      const from = member(fence)
      from.evict(`agent ${from.name} has ended`, 'left')
    },
    lane: (ticket: unknown) => hub.tunnels.acceptDialled(ho, parseText(ticket), po.peer.ident),
    lane_failed(fence: unknown, ticket: unknown, errorCode: unknown, message: unknown) {
      const known = /^E[A-Z]{2,20}$/.test(parseText(errorCode)) ? String(errorCode) : 'ECONNREFUSED'
      const error = Object.assign(new Error(parseText(message, 4_096)), { code: known })
      hub.tunnels.failOpening(member(fence), parseText(ticket), error)
    },
    lane_ended(fence: unknown, ticket: unknown, isProper: unknown) {
      hub.tunnels.markServerEnded(member(fence), parseText(ticket), isProper === true)
    },
    files(ticket: unknown) {
      const open = (made: ReceivedTree): void => {
        landing = made
      }
      return hub.transfers.acceptDialled(parseText(ticket), po.peer.ident, {
        po,
        ho,
        startReceiving: open,
      })
    },
    entry: landed('entry'),
    finish: landed('finish'),
    __hbi_cleanup__(_po: unknown, _ho: unknown, reason: unknown) {
      if (!own) return
      const why = typeof reason === 'string' ? reason : undefined
      hub.tunnels.failOpeningOfAgent(
        own,
        new Error(`agent ${own.name} is away: ${why ?? 'it hung up'}`),
      )
      own.detach(po, why)
    },
  }
}

function parseAgentInfo(said: Record<string, unknown>): AgentInfo {
  const labels = parseTextFields(said.labels)
  if (Object.keys(labels).length > MAX_LABELS) {
    throw new ManyhostError('MANYHOST_WIRE_PROTOCOL', `an agent has at most ${MAX_LABELS} labels`)
  }
  return {
    bootId: parseText(said.boot, 64),
    name: parseText(said.name, 128),
    maxInstances: Math.floor(parseCount(said.maxInstances)),
    cpus: parseCount(said.cpus),
    memory: parseCount(said.memory),
    labels,
    capabilities: new Set(parseTexts(said.capabilities).slice(0, 16)),
    provider: parseText(said.provider, 64),
  }
}
