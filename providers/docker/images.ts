/** Fetches images. All starts that wait for the same image share one pull. */
import type { Readable } from 'node:stream'
import { settleOrAbort } from '../../src/core/abort.ts'
import { describeError, ManyhostError } from '../../src/core/errors.ts'
import { resolveWithin } from '../../src/core/time.ts'
import { readJsonLines } from '../shared/json-lines.ts'
import type { DockerCaller } from './docker-caller.ts'

export interface DockerPullAuth {
  readonly username: string
  readonly password: string
  readonly server?: string
}

/** Longest time to fetch an image, in ms. */
const PULL_TIMEOUT = 1_800_000

const pullsUnderWay = new WeakMap<DockerCaller, Map<string, Promise<void>>>()

/** @throws ManyhostError MANYHOST_START_FAILED */
export async function fetchImage(
  engine: DockerCaller,
  image: string,
  auth: DockerPullAuth | undefined,
  signal: AbortSignal,
): Promise<void> {
  const pulls = pullsUnderWay.get(engine) ?? new Map<string, Promise<void>>()
  pullsUnderWay.set(engine, pulls)
  let pull = pulls.get(image)
  if (!pull) {
    pull = pullImage(engine, image, auth).finally(() => pulls.delete(image))
    // All starts that wait for it may have been given up by the time it fails.
    pull.catch(() => undefined)
    pulls.set(image, pull)
  }
  await settleOrAbort(pull, signal)
}

async function pullImage(
  engine: DockerCaller,
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
    if (failure === undefined) throw new Error(`it took longer than ${PULL_TIMEOUT} ms`)
    if (failure !== '') throw new Error(failure)
  } catch (cause) {
    const text = `cannot fetch image '${image}': ${describeError(cause).trim()}`
    throw new ManyhostError('MANYHOST_START_FAILED', text, { cause })
  }
}

/** Without a tag the engine would fetch all tags of the image. */
export function withDefaultTag(image: string): string {
  const name = image.slice(image.lastIndexOf('/') + 1)
  return name.includes(':') || name.includes('@') ? image : `${image}:latest`
}

/** The error that the engine reports while it fetches an image; empty if there was none. */
async function readPullFailure(stream: Readable): Promise<string> {
  let failure = ''
  for await (const line of readJsonLines(stream)) {
    const { error } = line as { error?: string }
    if (error) failure = error.slice(0, 1_000)
  }
  return failure
}
