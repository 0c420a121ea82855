/** Images, fetched once for all that wait for them. */
import type { Readable } from 'node:stream'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import { resolveWithin } from '../../src/core/time.ts'
import { readJsonLines } from '../shared/json-lines.ts'
import type { DockerEngine } from './engine.ts'

export interface DockerPullAuth {
  readonly username: string
  readonly password: string
  readonly server?: string
}

/** Longest that an image may take to come, in ms. */
const PULL_TIMEOUT = 1_800_000

const pullsUnderWay = new WeakMap<DockerEngine, Map<string, Promise<void>>>()

/** @throws ManyhostError MANYHOST_START_FAILED */
export async function fetchImage(
  engine: DockerEngine,
  image: string,
  auth: DockerPullAuth | undefined,
  signal: AbortSignal,
): Promise<void> {
  const mine = pullsUnderWay.get(engine) ?? new Map<string, Promise<void>>()
  pullsUnderWay.set(engine, mine)
  let pull = mine.get(image)
  if (!pull) {
    pull = pullImage(engine, image, auth).finally(() => mine.delete(image))
    // Whoever waits for it may have given up by the time it fails.
    pull.catch(() => undefined)
    mine.set(image, pull)
  }
  const givenUp = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
  await Promise.race([pull, givenUp])
}

async function pullImage(
  engine: DockerEngine,
  image: string,
  auth: DockerPullAuth | undefined,
): Promise<void> {
  const authconfig = auth && {
    username: auth.username,
    password: auth.password,
    ...(auth.server && { serveraddress: auth.server }),
  }
  try {
    const stream = await engine.call(`fetch image ${image}`, (docker) =>
      docker.pull(withDefaultTag(image), authconfig ? { authconfig } : {}),
    )
    const failure = await resolveWithin(PULL_TIMEOUT, readPullFailure(stream as Readable))
    if (failure === undefined) throw new Error('it took too long')
    if (failure !== '') throw new Error(failure)
  } catch (cause) {
    const text = `cannot fetch image '${image}': ${describeError(cause).trim()}`
    throw new ManyhostError('MANYHOST_START_FAILED', text, { cause })
  }
}

/** Without a tag the engine would fetch all there are. */
export function withDefaultTag(image: string): string {
  const name = image.slice(image.lastIndexOf('/') + 1)
  return name.includes(':') || name.includes('@') ? image : `${image}:latest`
}

/** What went wrong while it was fetched; nothing when all went well. */
async function readPullFailure(stream: Readable): Promise<string> {
  let failure = ''
  for await (const line of readJsonLines(stream)) {
    const { error } = line as { error?: string }
    if (error) failure = error.slice(0, 1_000)
  }
  return failure
}
