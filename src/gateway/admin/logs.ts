/** What instances write, as text: the last 64 KiB of each, and what follows. */
import type { Cluster } from '../../cluster/cluster.ts'
import type { Instance } from '../../cluster/instance.ts'
import type { SessionCore } from '../../session/session.ts'
import type { AdminStreamWriter } from './stream-writer.ts'

/** A line that never ends is passed on in parts of so many characters. */
const MAX_LINE = 65_536

/** The last lines of a text; all of it without a count. */
export function lastLines(text: string, count: number | undefined): string {
  if (count === undefined) return text
  const lines = text.split('\n')
  const isOpen = lines.at(-1) !== ''
  return lines.slice(isOpen ? -count : -count - 1).join('\n')
}

/** Chunks in, whole lines out, each with the instance before it. */
class LinePrefixer {
  readonly #prefix: string
  #rest = ''

  constructor(instance: string) {
    this.#prefix = `${instance} | `
  }

  push(chunk: string): string {
    const lines = (this.#rest + chunk).split('\n')
    this.#rest = lines.pop() ?? ''
    if (this.#rest.length > MAX_LINE) {
      lines.push(this.#rest)
      this.#rest = ''
    }
    return lines.map((line) => `${this.#prefix}${line}\n`).join('')
  }

  /** What is left without its line's end. */
  end(): string {
    const rest = this.#rest
    this.#rest = ''
    return rest === '' ? '' : `${this.#prefix}${rest}\n`
  }
}

export function clusterLog(cluster: Cluster, lines: number | undefined): string {
  return cluster.instances.map((instance) => prefixedLog(instance, lines)).join('')
}

function prefixedLog({ id, output }: Instance, lines: number | undefined): string {
  const prefixed = new LinePrefixer(id)
  return prefixed.push(lastLines(output.text(), lines)) + prefixed.end()
}

/** Tells what an instance wrote and writes, until it has ended. */
export function followInstance(
  session: SessionCore,
  instance: Instance,
  outflow: AdminStreamWriter,
  lines: number | undefined,
): void {
  outflow.write(lastLines(instance.output.text(), lines))
  outflow.onEnd(instance.output.follow((chunk) => outflow.write(chunk)))
  outflow.onEnd(
    session.on('instance', (event) => {
      if (event.instance === instance.id && isFinalState(event.state)) outflow.end()
    }),
  )
}

/** Tells what all instances of a cluster write, those to come too, until it is closed. */
export function followCluster(
  session: SessionCore,
  cluster: Cluster,
  outflow: AdminStreamWriter,
  lines: number | undefined,
): void {
  const followed = new Map<string, { prefixed: LinePrefixer; end: () => void }>()
  const follow = (instance: Instance): void => {
    if (followed.has(instance.id)) return
    const prefixed = new LinePrefixer(instance.id)
    outflow.write(prefixed.push(lastLines(instance.output.text(), lines)))
    const end = instance.output.follow((chunk) => outflow.write(prefixed.push(chunk)))
    followed.set(instance.id, { prefixed, end })
  }
  const unfollow = (id: string): void => {
    const { prefixed, end } = followed.get(id) ?? {}
    end?.()
    followed.delete(id)
    if (prefixed) outflow.write(prefixed.end())
  }
  for (const instance of cluster.instances) follow(instance)
  outflow.onEnd(
    session.on('instance', ({ service, instance, state }) => {
      if (service !== cluster.url) return
      if (isFinalState(state)) return unfollow(instance)
      // A service that was changed has another cluster under the same URL.
      const now = session.clusters.find(({ url }) => url === service)
      const found = now?.instances.find(({ id }) => id === instance)
      if (found) follow(found)
    }),
  )
  outflow.onEnd(
    session.on('cluster', ({ service, change }) => {
      const isGone = !session.clusters.some(({ url, isClosed }) => url === service && !isClosed)
      if (service === cluster.url && change === 'closed' && isGone) outflow.end()
    }),
  )
  outflow.onEnd(() => {
    for (const { end } of followed.values()) end()
  })
}

function isFinalState(state: string): boolean {
  return state === 'stopped' || state === 'failed'
}
