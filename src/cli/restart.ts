/** `manyhost restart`: instances replaced one by one. */
import { sleep } from '../core/time.ts'
import { Admin, type AdminOptions, clusterPath } from './admin.ts'
import { EXIT } from './exit.ts'
import { progress } from './progress.ts'
import type { NamedCluster } from './status.ts'
import { line } from './terminal.ts'

interface RestartOptions extends AdminOptions {
  readonly wait: boolean
}

const POLL = 250

export async function run(
  [name = '', instance]: readonly (string | undefined)[],
  options: RestartOptions,
): Promise<number> {
  const admin = new Admin(options)
  const one = instance === undefined ? '' : `/instances/${encodeURIComponent(instance)}`
  try {
    const before = await admin.json<NamedCluster>(clusterPath(name))
    const old = before.instances.filter(({ id }) => instance === undefined || id === instance)
    const ids = new Set(old.map(({ id }) => id))
    const path = clusterPath(name, `${one}/restart${options.wait ? '?wait=1' : ''}`)
    // The admin address answers when the last one is replaced, which may be long.
    const done = admin.ask(path, { method: 'POST', streams: true })
    const ended = new AbortController()
    const watching = watch(admin, name, ids, ended.signal)
    try {
      await (await done).body.dump()
    } finally {
      ended.abort()
      await watching
    }
    await line(`${before.url}: ${options.wait ? 'restarted' : 'restarting'} ${count(ids.size)}`)
    return EXIT.ok.number
  } finally {
    await admin.close()
  }
}

async function watch(
  admin: Admin,
  name: string,
  old: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<void> {
  if (!process.stderr.isTTY) return
  const shown = progress()
  while (!signal.aborted) {
    await sleep(POLL, signal).catch(() => {})
    if (signal.aborted) break
    const now = await admin.json<NamedCluster>(clusterPath(name)).catch(() => undefined)
    if (!now) break
    const left = now.instances.filter(({ id, state }) => old.has(id) && state !== 'draining').length
    shown.say(`${now.url}: ${old.size - left} of ${count(old.size)} replaced`)
  }
  shown.end()
}

function count(instances: number): string {
  return `${instances} instance${instances === 1 ? '' : 's'}`
}
