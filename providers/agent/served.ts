/** What the hub may call over an agent's link. */
import { rename } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { describe, ManyhostError } from '../../src/core/errors.ts'
import { code, type HostingEnd, type Names, type PostingEnd } from '../../src/wire/index.ts'
import { connectHub } from './connect.ts'
import type { Agent } from './run.ts'
import { count, fields, text, texts } from './said.ts'
import { reach, splice } from './splice.ts'
import { Landing, sendTree } from './tree.ts'

/** Characters of what a command wrote, in one packet. */
const PIECE = 100_000
/** Longest path. */
const PATH_MAX = 4_096

export function serveHub(agent: Agent, ho: HostingEnd): Names {
  return {
    start(said: unknown) {
      const spec = fields(said)
      return agent.start(spec, text(spec.id))
    },
    stop: (id: unknown, grace: unknown) => agent.stop(text(id), count(grace)),
    knock(id: unknown) {
      const { co } = ho
      return agent.guest(text(id)).knock(co.signal)
    },
    lane(id: unknown, ticket: unknown) {
      void lane(agent, text(id), text(ticket))
    },
    async run(id: unknown, env: unknown, command: unknown, args: unknown) {
      const { co } = ho
      const guest = agent.guest(text(id))
      guest.changeEnv(fields(env))
      const stdout = await guest.context.run(text(command, PATH_MAX), ...texts(args))
      await co.startSend()
      for (let at = 0; at < stdout.length; at += PIECE) {
        await co.sendValue(stdout.slice(at, at + PIECE))
      }
    },
    async spawn(id: unknown, env: unknown, command: unknown, args: unknown) {
      const guest = agent.guest(text(id))
      guest.changeEnv(fields(env))
      await guest.context.spawn(text(command, PATH_MAX), ...texts(args))
    },
    async upload(id: unknown, ticket: unknown, name: unknown, remote: unknown) {
      const { context } = agent.guest(text(id))
      const to = text(remote, PATH_MAX)
      const landing = await Landing.make()
      try {
        await receive(agent, landing, text(ticket))
        // A file that goes to a folder is found there by its own name.
        const named = join(landing.folder, `named-${basename(text(name, PATH_MAX)) || 'root'}`)
        await rename(landing.tree, named)
        const own = join(landing.folder, basename(text(name, PATH_MAX)) || 'root')
        await rename(named, own)
        await context.upload(own, to)
      } finally {
        await landing.remove()
      }
    },
    async download(id: unknown, ticket: unknown, remote: unknown) {
      const { co } = ho
      const { context } = agent.guest(text(id))
      const landing = await Landing.make()
      try {
        await context.download(text(remote, PATH_MAX), landing.tree)
        const { po } = await connectHub(agent.way, {})
        try {
          await mustBeKnown(po, 'files', text(ticket))
          await sendTree(po, landing.tree, co.signal)
        } finally {
          void po.disconnect()
        }
      } finally {
        await landing.remove()
      }
    },
  }
}

/** Dials a link for files, and waits until the hub has sent all of them. */
async function receive(agent: Agent, landing: Landing, ticket: string): Promise<void> {
  let done!: () => void
  const finished = new Promise<void>((resolve) => {
    done = resolve
  })
  const { po } = await connectHub(agent.way, (_, ho) => {
    const names = landing.names(ho)
    const finish = async (): Promise<void> => {
      await names.finish?.()
      done()
    }
    return { ...names, finish }
  })
  await mustBeKnown(po, 'files', ticket)
  const cut = po.waitDisconnected().then((reason) => {
    throw new ManyhostError('MANYHOST_WIRE_CLOSED', `files were cut short: ${reason ?? 'hung up'}`)
  })
  cut.catch(() => {})
  await Promise.race([finished, cut])
}

/** One more connection to an instance: first there, so that one that nobody accepts is told as that. */
async function lane(agent: Agent, id: string, ticket: string): Promise<void> {
  const failed = (thrown: unknown): void => {
    const known = (thrown as { code?: unknown }).code
    const errno = typeof known === 'string' && /^E[A-Z]+$/.test(known) ? known : 'ECONNREFUSED'
    agent.tell(code`lane_failed(${agent.fence}, ${ticket}, ${errno}, ${describe(thrown)})`)
  }
  try {
    const { door } = agent.guest(id)
    if (!door) throw new Error(`${id} has not started`)
    const local = await reach(door)
    // Until the lane is there, nobody else hears of it.
    const early = (): void => void local.destroy()
    local.on('error', early)
    try {
      const { po, ho } = await connectHub(agent.way, {})
      await mustBeKnown(po, 'lane', ticket)
      const dialled = await ho.release()
      splice(dialled, local, (isProper) =>
        agent.tell(code`lane_ended(${agent.fence}, ${ticket}, ${isProper})`),
      )
    } catch (error) {
      local.destroy()
      throw error
    }
  } catch (error) {
    failed(error)
  }
}

async function mustBeKnown(po: PostingEnd, name: 'lane' | 'files', ticket: string): Promise<void> {
  if ((await po.call(name, ticket)) === true) return
  void po.disconnect()
  throw new Error('the hub does not know the ticket any more')
}
