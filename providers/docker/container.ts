/** Calls about one container. It is created once and started once, even if the answer to a call gets lost. */
import type { ContainerCreateOptions, ContainerInspectInfo } from 'dockerode'
import type { EngineCallOptions } from '../shared/engine-caller.ts'
import type { DockerCaller } from './docker-caller.ts'
import { INSTANCE_LABEL, SESSION_LABEL } from './labels.ts'

/**
 * Resolves with the id of the new container.
 * @param fetchImage fetches the image if the engine does not have it
 */
export async function createContainer(
  engine: DockerCaller,
  body: ContainerCreateOptions,
  fetchImage: ((signal: AbortSignal) => Promise<void>) | undefined,
  { signal, retryMs }: { signal: AbortSignal; retryMs: number },
): Promise<string> {
  const make = async (): Promise<string> => {
    try {
      const made = await engine.call(
        'create a container',
        // Not cut when the start is given up, because then it must be known whether there is a container to remove.
        (docker) => docker.createContainer(body),
        { signal, retryMs },
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

/** The name is taken: by our own first try, if its answer was lost. */
async function findOwnContainer(
  engine: DockerCaller,
  body: ContainerCreateOptions,
  signal: AbortSignal,
  error: unknown,
): Promise<string> {
  const { Id, Config } = await inspectContainer(engine, body.name as string, { signal })
  const labels = body.Labels ?? {}
  const isOurs = [SESSION_LABEL, INSTANCE_LABEL].every(
    (label) => Config.Labels?.[label] === labels[label],
  )
  if (!isOurs) throw error
  return Id
}

export async function startContainer(
  engine: DockerCaller,
  id: string,
  signal: AbortSignal,
): Promise<void> {
  await engine
    .call('start a container', (docker) => docker.getContainer(id).start(), { signal })
    // 304: an earlier try, whose answer was lost, has started the container.
    .catch((error) => {
      if (error.statusCode !== 304) throw error
    })
}

/** The port of the engine's machine that a port of the container is published on. */
export async function findPublishedPort(
  engine: DockerCaller,
  id: string,
  port: number,
  signal: AbortSignal,
): Promise<number> {
  const { NetworkSettings } = await inspectContainer(engine, id, { signal })
  const [binding] = NetworkSettings.Ports?.[`${port}/tcp`] ?? []
  if (binding) return Number(binding.HostPort)
  throw new Error(`port ${port} of the container is not published`)
}

/** What the engine knows about the end of a container; undefined if it does not answer the first call. */
export async function readExitState(
  engine: DockerCaller,
  name: string,
): Promise<{ ExitCode: number; OOMKilled: boolean } | undefined> {
  try {
    return (await inspectContainer(engine, name, { retryMs: 0 })).State
  } catch {
    return undefined
  }
}

/** Asks the container to end, by the stop signal of its image. */
export async function requestContainerStop(engine: DockerCaller, id: string): Promise<void> {
  const { Config } = await inspectContainer(engine, id)
  const { StopSignal } = Config as { StopSignal?: string }
  const signal = StopSignal || 'SIGTERM'
  await engine.call('stop', (docker) => docker.getContainer(id).kill({ signal }))
}

function inspectContainer(
  engine: DockerCaller,
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
