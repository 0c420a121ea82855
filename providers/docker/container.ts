/** A container as the engine has it: made once, and started once, whatever answers get lost on the way. */
import type { ContainerCreateOptions, ContainerInspectInfo } from 'dockerode'
import type { EngineCallOptions } from '../shared/engine-caller.ts'
import type { DockerEngine } from './engine.ts'
import { INSTANCE_LABEL, SESSION_LABEL } from './labels.ts'

/**
 * Resolves with its id.
 * @param fetchImage gets the image when the engine does not have it
 */
export async function createContainer(
  engine: DockerEngine,
  body: ContainerCreateOptions,
  fetchImage: ((signal: AbortSignal) => Promise<void>) | undefined,
  { signal, patience }: { signal: AbortSignal; patience: number },
): Promise<string> {
  const make = async (): Promise<string> => {
    try {
      const made = await engine.call(
        'create a container',
        // Not cut when it is given up: whoever gives up has to know whether there is a container.
        (docker) => docker.createContainer(body),
        { signal, retryMs: patience },
      )
      return made.id
    } catch (error) {
      if (statusCodeOf(error) !== 409) throw error
      return findOwnContainer(engine, body, signal, error)
    }
  }
  try {
    return await make()
  } catch (error) {
    if (statusCodeOf(error) !== 404 || !fetchImage) throw error
    await fetchImage(signal)
    return make()
  }
}

/** The name is taken: by our own first try, whose answer was lost. */
async function findOwnContainer(
  engine: DockerEngine,
  body: ContainerCreateOptions,
  signal: AbortSignal,
  error: unknown,
): Promise<string> {
  const { Id, Config } = await inspectContainer(engine, body.name as string, { signal })
  const mine = body.Labels ?? {}
  const isMine = [SESSION_LABEL, INSTANCE_LABEL].every(
    (label) => Config.Labels?.[label] === mine[label],
  )
  if (!isMine) throw error
  return Id
}

export async function startContainer(
  engine: DockerEngine,
  id: string,
  signal: AbortSignal,
): Promise<void> {
  await engine
    .call('start a container', (docker) => docker.getContainer(id).start(), { signal })
    // 304: it was started by a try whose answer was lost.
    .catch((error) => {
      if (error.statusCode !== 304) throw error
    })
}

/** The port of the engine's machine by which a port of the container is reached. */
export async function findPublishedPort(
  engine: DockerEngine,
  id: string,
  port: number,
  signal: AbortSignal,
): Promise<number> {
  const { NetworkSettings } = await inspectContainer(engine, id, { signal })
  const [binding] = NetworkSettings.Ports?.[`${port}/tcp`] ?? []
  if (binding) return Number(binding.HostPort)
  throw new Error(`port ${port} of the container is not published`)
}

/** What the engine keeps of an end, which may have more than one cause; asked once. */
export async function readExitState(
  engine: DockerEngine,
  name: string,
): Promise<{ ExitCode: number; OOMKilled: boolean } | undefined> {
  try {
    return (await inspectContainer(engine, name, { retryMs: 0 })).State
  } catch {
    return undefined
  }
}

/** Asks it to end, by the signal that its image wants. */
export async function requestContainerStop(engine: DockerEngine, id: string): Promise<void> {
  const { Config } = await inspectContainer(engine, id)
  const { StopSignal } = Config as { StopSignal?: string }
  const signal = StopSignal || 'SIGTERM'
  await engine.call('stop', (docker) => docker.getContainer(id).kill({ signal }))
}

function inspectContainer(
  engine: DockerEngine,
  container: string,
  options?: EngineCallOptions,
): Promise<ContainerInspectInfo> {
  return engine.call(
    'look at a container',
    (docker, abortSignal) => docker.getContainer(container).inspect({ abortSignal }),
    options,
  )
}

function statusCodeOf(error: unknown): number | undefined {
  return (error as { statusCode?: number }).statusCode
}
