/** Instances whose session was killed by SIGKILL, in a process of its own. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import type { Harness } from './conformance.ts'
import { buildProviders, waitUntil } from './process-help.ts'

/** How a provider is made where only compiled JavaScript and JSON reach. */
export interface Orphans {
  /** `providers/process/index.js` */
  readonly module: string
  /** `processes` */
  readonly make: string
  readonly options: Readonly<Record<string, unknown>>
}

/** Starts two instances, kills their session, and answers with their names. */
export async function orphans(harness: Harness, name: string): Promise<string[]> {
  const { elsewhere, base = {} } = harness
  const ids = [`${name}-1`, `${name}-2`]
  const built = await buildProviders()
  const what = {
    ...elsewhere,
    module: join(built, elsewhere.module),
    base,
    command: harness.server(),
    ids,
  }
  const script = 'test/fakes/orphaning-session.mjs'
  const child = spawn(process.execPath, [script, JSON.stringify(what)])
  try {
    child.stderr.pipe(process.stderr)
    let text = ''
    child.stdout.on('data', (chunk) => {
      text += chunk
    })
    await waitUntil(() => text.endsWith('\n'), 60_000)
    for (const id of ids) await waitUntil(() => harness.exists(id))
  } finally {
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
    rmSync(built, { recursive: true, force: true })
  }
  return ids
}
