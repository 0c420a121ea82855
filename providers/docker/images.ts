/** Images, fetched once for all that wait for them. */
import type { Readable } from 'node:stream'
import { describe, ManyhostError } from '../../src/core/errors.ts'
import { within } from '../../src/core/time.ts'
import type { Engine } from './engine.ts'
import { lines } from './lines.ts'

export interface PullAuth {
  readonly username: string
  readonly password: string
  readonly server?: string
}

/** Longest that an image may take to come, in ms. */
const PULL_TIMEOUT = 1_800_000

const underWay = new WeakMap<Engine, Map<string, Promise<void>>>()

/** @throws ManyhostError MANYHOST_START_FAILED */
export async function fetchImage(
  engine: Engine,
  image: string,
  auth: PullAuth | undefined,
  signal: AbortSignal,
): Promise<void> {
  const mine = underWay.get(engine) ?? new Map<string, Promise<void>>()
  underWay.set(engine, mine)
  let pull = mine.get(image)
  if (!pull) {
    pull = fetch(engine, image, auth).finally(() => mine.delete(image))
    // Whoever waits for it may have given up by the time it fails.
    pull.catch(() => undefined)
    mine.set(image, pull)
  }
  const givenUp = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
  await Promise.race([pull, givenUp])
}

async function fetch(engine: Engine, image: string, auth: PullAuth | undefined): Promise<void> {
  const authconfig = auth && {
    username: auth.username,
    password: auth.password,
    ...(auth.server && { serveraddress: auth.server }),
  }
  try {
    const stream = await engine.call(`fetch image ${image}`, (docker) =>
      docker.pull(tagged(image), authconfig ? { authconfig } : {}),
    )
    const failure = await within(PULL_TIMEOUT, outcome(stream as Readable))
    if (failure === undefined) throw new Error('it took too long')
    if (failure !== '') throw new Error(failure)
  } catch (cause) {
    const text = `cannot fetch image '${image}': ${describe(cause).trim()}`
    throw new ManyhostError('MANYHOST_START_FAILED', text, { cause })
  }
}

/** Without a tag the engine would fetch all there are. */
export function tagged(image: string): string {
  const name = image.slice(image.lastIndexOf('/') + 1)
  return name.includes(':') || name.includes('@') ? image : `${image}:latest`
}

/** What went wrong while it was fetched; nothing when all went well. */
async function outcome(stream: Readable): Promise<string> {
  let failure = ''
  for await (const line of lines(stream)) {
    const { error } = line as { error?: string }
    if (error) failure = error.slice(0, 1_000)
  }
  return failure
}
