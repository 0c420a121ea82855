/** What an agent may call over one link to the hub. A link is an agent's own, a lane on its way, or one for files. */
import { ManyhostError } from '../../src/core/errors.ts'
import type { HostingEnd, Names, PostingEnd } from '../../src/wire/index.ts'
import type { Hub } from './hub.ts'
import type { Machine, Member } from './member.ts'
import { count, exit, fields, listenOn, text, textFields, texts } from './said.ts'
import type { Landing } from './tree.ts'

/** Longest piece of output, in characters. */
const LOG_MAX = 1_048_576
/** Labels of an agent. */
const LABELS_MAX = 64

export function door(hub: Hub, po: PostingEnd, ho: HostingEnd): Names {
  let own: Member | undefined
  let landing: Landing | undefined

  /** The agent of this link, if it is the one that it believes to be. */
  const member = (fence: unknown): Member => {
    if (own && !own.isGone && own.fence === fence) {
      own.heard()
      return own
    }
    hub.fenced()
    throw new ManyhostError(
      'MANYHOST_AGENT_FENCED',
      'this agent was evicted: what it had is not its own any more',
    )
  }
  const instance = (fence: unknown, id: unknown) => {
    const found = member(fence).instances.get(text(id))
    if (found) return found
    throw new ManyhostError('MANYHOST_AGENT_FENCED', `no instance ${text(id)} is known here`)
  }
  const landed =
    (name: 'entry' | 'finish') =>
    (...args: unknown[]): unknown => {
      if (!landing) throw new ManyhostError('MANYHOST_WIRE_PROTOCOL', 'no files were asked for')
      return landing.names(ho)[name]?.(...args)
    }

  return {
    hello(said: unknown) {
      const given = fields(said)
      own = hub.welcome(po, machineOf(given), fields(given))
      const there = new Set(texts(given.instances))
      own.attach(po)
      return {
        fence: own.fence,
        keep: hub.sort(own, there),
        beat: hub.settings.beat,
        evictAfter: hub.settings.evictAfter,
      }
    },
    ready(fence: unknown) {
      member(fence).settled()
      hub.place()
    },
    load(fence: unknown, load: unknown) {
      member(fence).load = count(load)
    },
    log(fence: unknown, id: unknown, output: unknown) {
      instance(fence, id).write(text(output, LOG_MAX))
    },
    exited(fence: unknown, id: unknown, how: unknown) {
      member(fence).instances.get(text(id))?.ended(exit(how))
    },
    startup(fence: unknown, id: unknown, where: unknown, env: unknown) {
      return instance(fence, id).startup(listenOn(where), textFields(env))
    },
    leave(fence: unknown, why: unknown) {
      hub.leaves(member(fence), text(why))
    },
    bye(fence: unknown) {
      const from = member(fence)
      from.evict(`agent ${from.name} has ended`, 'left')
    },
    lane: (ticket: unknown) => hub.lanes.arrive(ho, text(ticket), po.peer.ident),
    lane_failed(fence: unknown, ticket: unknown, errorCode: unknown, message: unknown) {
      const known = /^E[A-Z]{2,20}$/.test(text(errorCode)) ? String(errorCode) : 'ECONNREFUSED'
      const error = Object.assign(new Error(text(message, 4_096)), { code: known })
      hub.lanes.refuse(member(fence), text(ticket), error)
    },
    lane_ended(fence: unknown, ticket: unknown, isProper: unknown) {
      hub.lanes.ended(member(fence), text(ticket), isProper === true)
    },
    files(ticket: unknown) {
      const open = (made: Landing): void => {
        landing = made
      }
      return hub.transfers.arrive(text(ticket), po.peer.ident, { po, ho, open })
    },
    entry: landed('entry'),
    finish: landed('finish'),
    __hbi_cleanup__(_po: unknown, _ho: unknown, reason: unknown) {
      if (!own) return
      const why = typeof reason === 'string' ? reason : undefined
      hub.lanes.cut(own, new Error(`agent ${own.name} is away: ${why ?? 'it hung up'}`))
      own.detach(po, why)
    },
  }
}

function machineOf(said: Record<string, unknown>): Machine {
  const labels = textFields(said.labels)
  if (Object.keys(labels).length > LABELS_MAX) {
    throw new ManyhostError('MANYHOST_WIRE_PROTOCOL', `an agent has at most ${LABELS_MAX} labels`)
  }
  return {
    boot: text(said.boot, 64),
    name: text(said.name, 128),
    places: Math.floor(count(said.places)),
    cpus: count(said.cpus),
    memory: count(said.memory),
    labels,
    capabilities: new Set(texts(said.capabilities).slice(0, 16)),
    provider: text(said.provider, 64),
  }
}
