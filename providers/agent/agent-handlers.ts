/** What the hub may call over an agent's link. */
import { rename } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { deferred } from '../../src/core/deferred.ts'
import { asError, describeError, ManyhostError } from '../../src/core/errors.ts'
import { code, type HostingEnd, type Names, type PostingEnd } from '../../src/wire/index.ts'
import type { AgentInstance } from './agent-instance.ts'
import { connectHub, type HubConnectOptions } from './connect-hub.ts'
import { ReceivedTree, sendTree } from './file-tree.ts'
import { parseCount, parseErrno, parseFields, parseText, parseTexts } from './parse-message.ts'
import { connectInstance, splice } from './splice.ts'

/** Characters of a command's output in one packet. */
const PACKET_LENGTH = 100_000
/** Longest path, in characters. */
const MAX_PATH_LENGTH = 4_096

/** What the handlers call of the agent. */
export interface AgentCalls {
  readonly hubOptions: HubConnectOptions
  /** Undefined while the hub has not admitted the agent. */
  readonly fence: number | undefined
  /** Resolves with the address of the instance. */
  startInstance(spec: Record<string, unknown>, id: string): Promise<string>
  stopInstance(id: string, grace: number): Promise<void>
  /** @throws ManyhostError MANYHOST_INSTANCE_ENDED */
  getInstance(id: string): AgentInstance
  /** Sends the hub a message without an answer; it is lost if there is no link. */
  sendNotification(text: string): void
}

export function createAgentHandlers(agent: AgentCalls, ho: HostingEnd): Names {
  return {
    start(message: unknown) {
      const spec = parseFields(message)
      return agent.startInstance(spec, parseText(spec.id))
    },
    stop: (id: unknown, grace: unknown) => agent.stopInstance(parseText(id), parseCount(grace)),
    knock(id: unknown) {
      const { co } = ho
      return agent.getInstance(parseText(id)).checkAccepts(co.signal)
    },
    lane(id: unknown, token: unknown) {
      void openTunnel(agent, parseText(id), parseText(token))
    },
    async run(id: unknown, env: unknown, command: unknown, args: unknown) {
      const { co } = ho
      const instance = agent.getInstance(parseText(id))
      instance.changeEnv(parseFields(env))
      const path = parseText(command, MAX_PATH_LENGTH)
      const stdout = await instance.context.run(path, ...parseTexts(args))
      await co.startSend()
      for (let at = 0; at < stdout.length; at += PACKET_LENGTH) {
        await co.sendValue(stdout.slice(at, at + PACKET_LENGTH))
      }
    },
    async spawn(id: unknown, env: unknown, command: unknown, args: unknown) {
      const instance = agent.getInstance(parseText(id))
      instance.changeEnv(parseFields(env))
      await instance.context.spawn(parseText(command, MAX_PATH_LENGTH), ...parseTexts(args))
    },
    async upload(id: unknown, token: unknown, name: unknown, remote: unknown) {
      const { context } = agent.getInstance(parseText(id))
      const to = parseText(remote, MAX_PATH_LENGTH)
      const tree = await ReceivedTree.create()
      try {
        await receiveFiles(agent, tree, parseText(token))
        const local = await nameReceived(tree, basename(parseText(name, MAX_PATH_LENGTH)))
        await context.upload(local, to)
      } finally {
        await tree.remove()
      }
    },
    async download(id: unknown, token: unknown, remote: unknown) {
      const { co } = ho
      const { context } = agent.getInstance(parseText(id))
      const tree = await ReceivedTree.create()
      try {
        await context.download(parseText(remote, MAX_PATH_LENGTH), tree.rootPath)
        const { po } = await connectHub(agent.hubOptions, {})
        try {
          await presentToken(po, 'files', parseText(token))
          await sendTree(po, tree.rootPath, co.signal)
        } finally {
          void po.disconnect()
        }
      } finally {
        await tree.remove()
      }
    },
  }
}

/**
 * Gives the received file its own name, because a file that is copied to a folder keeps its name there. Two steps: the
 * name may be that of the tree itself.
 */
async function nameReceived(tree: ReceivedTree, name: string): Promise<string> {
  const temporary = join(tree.folder, `named-${name || 'root'}`)
  await rename(tree.rootPath, temporary)
  const path = join(tree.folder, name || 'root')
  await rename(temporary, path)
  return path
}

/** Dials a link for files. Resolves when the hub has sent all of them. */
async function receiveFiles(agent: AgentCalls, tree: ReceivedTree, token: string): Promise<void> {
  const finished = deferred<void>()
  const { po } = await connectHub(agent.hubOptions, (_, ho) => {
    const handlers = tree.createHandlers(ho)
    const finish = async (): Promise<void> => {
      await handlers.finish?.()
      finished.resolve()
    }
    return { ...handlers, finish }
  })
  await presentToken(po, 'files', token)
  const cut = po.waitDisconnected().then((reason) => {
    const message = `the link for files ended before all files had come: ${reason ?? 'the hub hung up'}`
    throw new ManyhostError('MANYHOST_WIRE_CLOSED', message)
  })
  cut.catch(() => {})
  await Promise.race([finished.promise, cut])
}

/**
 * Opens a tunnel to an instance. Connects to the instance first and dials the hub second, so that the hub gets the error
 * of an instance that does not accept.
 */
async function openTunnel(agent: AgentCalls, id: string, token: string): Promise<void> {
  try {
    const { serverAddress } = agent.getInstance(id)
    if (!serverAddress) throw new Error(`instance ${id} has not started`)
    const local = await connectInstance(serverAddress)
    // Until the tunnel is open, nothing else listens for errors of this socket.
    local.on('error', () => void local.destroy())
    try {
      const { po, ho } = await connectHub(agent.hubOptions, {})
      await presentToken(po, 'lane', token)
      const tunnel = await ho.release()
      splice(tunnel, local, (isProper) =>
        agent.sendNotification(code`lane_ended(${agent.fence}, ${token}, ${isProper})`),
      )
    } catch (error) {
      local.destroy()
      throw error
    }
  } catch (thrown) {
    const errno = parseErrno((asError(thrown) as NodeJS.ErrnoException).code)
    const message = describeError(thrown)
    agent.sendNotification(code`lane_failed(${agent.fence}, ${token}, ${errno}, ${message})`)
  }
}

async function presentToken(po: PostingEnd, name: 'lane' | 'files', token: string): Promise<void> {
  if ((await po.call(name, token)) === true) return
  void po.disconnect()
  throw new Error('the hub does not know this token any more')
}
