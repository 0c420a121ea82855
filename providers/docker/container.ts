/** A container as the engine has it: made once, and started once, whatever answers get lost on the way. */
import type { ContainerCreateOptions, ContainerInspectInfo } from 'dockerode'
import type { CallOptions } from '../away.ts'
import type { Engine } from './engine.ts'
import { INSTANCE, SESSION } from './labels.ts'

/**
 * Resolves with its id.
 * @param fetchImage gets the image when the engine does not have it
 */
export async function create(
  engine: Engine,
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
        { signal, patience },
      )
      return made.id
    } catch (error) {
      if (statusOf(error) !== 409) throw error
      return known(engine, body, signal, error)
    }
  }
  try {
    return await make()
  } catch (error) {
    if (statusOf(error) !== 404 || !fetchImage) throw error
    await fetchImage(signal)
    return make()
  }
}

/** The name is taken: by our own first try, whose answer was lost. */
async function known(
  engine: Engine,
  body: ContainerCreateOptions,
  signal: AbortSignal,
  error: unknown,
): Promise<string> {
  const { Id, Config } = await inspect(engine, body.name as string, { signal })
  const mine = body.Labels ?? {}
  const isMine = [SESSION, INSTANCE].every((label) => Config.Labels?.[label] === mine[label])
  if (!isMine) throw error
  return Id
}

export async function launch(engine: Engine, id: string, signal: AbortSignal): Promise<void> {
  await engine
    .call('start a container', (docker) => docker.getContainer(id).start(), { signal })
    // 304: it was started by a try whose answer was lost.
    .catch((error) => {
      if (error.statusCode !== 304) throw error
    })
}

/** The port of the engine's machine by which a port of the container is reached. */
export async function published(
  engine: Engine,
  id: string,
  port: number,
  signal: AbortSignal,
): Promise<number> {
  const { NetworkSettings } = await inspect(engine, id, { signal })
  const [binding] = NetworkSettings.Ports?.[`${port}/tcp`] ?? []
  if (binding) return Number(binding.HostPort)
  throw new Error(`port ${port} of the container is not published`)
}

/** What the engine keeps of an end, which may have more than one cause; asked once. */
export async function stateOf(
  engine: Engine,
  name: string,
): Promise<{ ExitCode: number; OOMKilled: boolean } | undefined> {
  try {
    return (await inspect(engine, name, { patience: 0 })).State
  } catch {
    return undefined
  }
}

/** Asks it to end, by the signal that its image wants. */
export async function ask(engine: Engine, id: string): Promise<void> {
  const { Config } = await inspect(engine, id)
  const { StopSignal } = Config as { StopSignal?: string }
  const signal = StopSignal || 'SIGTERM'
  await engine.call('stop', (docker) => docker.getContainer(id).kill({ signal }))
}

function inspect(
  engine: Engine,
  container: string,
  options?: CallOptions,
): Promise<ContainerInspectInfo> {
  return engine.call(
    'look at a container',
    (docker, abortSignal) => docker.getContainer(container).inspect({ abortSignal }),
    options,
  )
}

function statusOf(error: unknown): number | undefined {
  return (error as { statusCode?: number }).statusCode
}
