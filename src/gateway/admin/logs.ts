/** Output of instances as text: the last 64 KiB of each, and what they write from then on. */
import type { Cluster } from '../../cluster/cluster.ts'
import type { Instance } from '../../cluster/instance.ts'
import type { SessionCore } from '../../session/session.ts'
import type { AdminStreamWriter } from './stream-writer.ts'

/** A line without an end is passed on in parts of this many characters. */
const MAX_LINE = 65_536

/** The last `count` lines of a text; the whole text without a count. */
export function lastLines(text: string, count: number | undefined): string {
  if (count === undefined) return text
  const lines = text.split('\n')
  const isOpen = lines.at(-1) !== ''
  return lines.slice(isOpen ? -count : -count - 1).join('\n')
}

/** Turns chunks into whole lines, each with the name of its instance before it. */
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

  /** The last line, which has no line break. */
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

/** Writes the output of an instance until the instance has ended. */
export function followInstance(
  session: SessionCore,
  instance: Instance,
  writer: AdminStreamWriter,
  lines: number | undefined,
): void {
  writer.write(lastLines(instance.output.text(), lines))
  writer.onEnd(instance.output.follow((chunk) => writer.write(chunk)))
  writer.onEnd(
    session.on('instance', (event) => {
      if (event.instance === instance.id && isFinalState(event.state)) writer.end()
    }),
  )
}

/** Writes the output of all instances of a cluster, later ones as well, until the cluster is closed. */
export function followCluster(
  session: SessionCore,
  cluster: Cluster,
  writer: AdminStreamWriter,
  lines: number | undefined,
): void {
  const followed = new Map<string, { prefixed: LinePrefixer; end: () => void }>()
  const follow = (instance: Instance): void => {
    if (followed.has(instance.id)) return
    const prefixed = new LinePrefixer(instance.id)
    writer.write(prefixed.push(lastLines(instance.output.text(), lines)))
    const end = instance.output.follow((chunk) => writer.write(prefixed.push(chunk)))
    followed.set(instance.id, { prefixed, end })
  }
  const unfollow = (id: string): void => {
    const { prefixed, end } = followed.get(id) ?? {}
    end?.()
    followed.delete(id)
    if (prefixed) writer.write(prefixed.end())
  }
  for (const instance of cluster.instances) follow(instance)
  writer.onEnd(
    session.on('instance', ({ service, instance, state }) => {
      if (service !== cluster.url) return
      if (isFinalState(state)) return unfollow(instance)
      // After an update of the service, its URL has another cluster.
      const current = session.clusters.find(({ url }) => url === service)
      const found = current?.instances.find(({ id }) => id === instance)
      if (found) follow(found)
    }),
  )
  writer.onEnd(
    session.on('cluster', ({ service, change }) => {
      const isGone = !session.clusters.some(({ url, isClosed }) => url === service && !isClosed)
      if (service === cluster.url && change === 'closed' && isGone) writer.end()
    }),
  )
  writer.onEnd(() => {
    for (const { end } of followed.values()) end()
  })
}

function isFinalState(state: string): boolean {
  return state === 'stopped' || state === 'failed'
}
