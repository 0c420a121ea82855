/** What the hub may call over an agent's link. */
import { rename } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import { code, type HostingEnd, type Names, type PostingEnd } from '../../src/wire/index.ts'
import type { AgentProgram } from './agent-program.ts'
import { connectHub } from './connect-hub.ts'
import { ReceivedTree, sendTree } from './file-tree.ts'
import { parseCount, parseFields, parseText, parseTexts } from './parse-message.ts'
import { connectInstance, splice } from './splice.ts'

/** Characters of what a command wrote, in one packet. */
const PACKET_LENGTH = 100_000
/** Longest path. */
const MAX_PATH_LENGTH = 4_096

export function createAgentHandlers(agent: AgentProgram, ho: HostingEnd): Names {
  return {
    start(said: unknown) {
      const spec = parseFields(said)
      return agent.startInstance(spec, parseText(spec.id))
    },
    stop: (id: unknown, grace: unknown) => agent.stopInstance(parseText(id), parseCount(grace)),
    knock(id: unknown) {
      const { co } = ho
      return agent.getInstance(parseText(id)).checkAccepts(co.signal)
    },
    lane(id: unknown, ticket: unknown) {
      void openTunnel(agent, parseText(id), parseText(ticket))
    },
    async run(id: unknown, env: unknown, command: unknown, args: unknown) {
      const { co } = ho
      const guest = agent.getInstance(parseText(id))
      guest.changeEnv(parseFields(env))
      const stdout = await guest.context.run(
        parseText(command, MAX_PATH_LENGTH),
        ...parseTexts(args),
      )
      await co.startSend()
      for (let at = 0; at < stdout.length; at += PACKET_LENGTH) {
        await co.sendValue(stdout.slice(at, at + PACKET_LENGTH))
      }
    },
    async spawn(id: unknown, env: unknown, command: unknown, args: unknown) {
      const guest = agent.getInstance(parseText(id))
      guest.changeEnv(parseFields(env))
      await guest.context.spawn(parseText(command, MAX_PATH_LENGTH), ...parseTexts(args))
    },
    async upload(id: unknown, ticket: unknown, name: unknown, remote: unknown) {
      const { context } = agent.getInstance(parseText(id))
      const to = parseText(remote, MAX_PATH_LENGTH)
      const landing = await ReceivedTree.create()
      try {
        await receiveFiles(agent, landing, parseText(ticket))
        // A file that goes to a folder is found there by its own name.
        const named = join(
          landing.folder,
          `named-${basename(parseText(name, MAX_PATH_LENGTH)) || 'root'}`,
        )
        await rename(landing.rootPath, named)
        const own = join(landing.folder, basename(parseText(name, MAX_PATH_LENGTH)) || 'root')
        await rename(named, own)
        await context.upload(own, to)
      } finally {
        await landing.remove()
      }
    },
    async download(id: unknown, ticket: unknown, remote: unknown) {
      const { co } = ho
      const { context } = agent.getInstance(parseText(id))
      const landing = await ReceivedTree.create()
      try {
        await context.download(parseText(remote, MAX_PATH_LENGTH), landing.rootPath)
        const { po } = await connectHub(agent.hubOptions, {})
        try {
          await presentToken(po, 'files', parseText(ticket))
          await sendTree(po, landing.rootPath, co.signal)
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
async function receiveFiles(agent: AgentProgram, tree: ReceivedTree, token: string): Promise<void> {
  let done!: () => void
  const finished = new Promise<void>((resolve) => {
    done = resolve
  })
  const { po } = await connectHub(agent.hubOptions, (_, ho) => {
    const names = tree.createHandlers(ho)
    const finish = async (): Promise<void> => {
      await names.finish?.()
      done()
    }
    return { ...names, finish }
  })
  await presentToken(po, 'files', token)
  const cut = po.waitDisconnected().then((reason) => {
    throw new ManyhostError('MANYHOST_WIRE_CLOSED', `files were cut short: ${reason ?? 'hung up'}`)
  })
  cut.catch(() => {})
  await Promise.race([finished, cut])
}

/** One more connection to an instance: first there, so that one that nobody accepts is told as that. */
async function openTunnel(agent: AgentProgram, id: string, token: string): Promise<void> {
  const failed = (thrown: unknown): void => {
    const known = (thrown as { code?: unknown }).code
    const errno = typeof known === 'string' && /^E[A-Z]+$/.test(known) ? known : 'ECONNREFUSED'
    agent.sendNotification(
      code`lane_failed(${agent.fence}, ${token}, ${errno}, ${describeError(thrown)})`,
    )
  }
  try {
    const { serverAddress: door } = agent.getInstance(id)
    if (!door) throw new Error(`${id} has not started`)
    const local = await connectInstance(door)
    // Until the lane is there, nobody else hears of it.
    const early = (): void => void local.destroy()
    local.on('error', early)
    try {
      const { po, ho } = await connectHub(agent.hubOptions, {})
      await presentToken(po, 'lane', token)
      const dialled = await ho.release()
      splice(dialled, local, (isProper) =>
        agent.sendNotification(code`lane_ended(${agent.fence}, ${token}, ${isProper})`),
      )
    } catch (error) {
      local.destroy()
      throw error
    }
  } catch (error) {
    failed(error)
  }
}

async function presentToken(po: PostingEnd, name: 'lane' | 'files', token: string): Promise<void> {
  if ((await po.call(name, token)) === true) return
  void po.disconnect()
  throw new Error('the hub does not know the ticket any more')
}
