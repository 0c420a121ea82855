/** Output of a container as the cluster keeps it: line by line, each with its time, so that it can be taken up again. */
import type { KubernetesApi } from './api.ts'

export interface PodLogSource {
  readonly api: KubernetesApi
  readonly namespace: string
  readonly pod: string
  readonly container: string
}

/** How long the first of an output may take, in ms. */
const LOG_TIMEOUT = 30_000
/** Longest line that is waited for to its end, in characters. */
const MAX_LINE = 65_536

export class PodLogs {
  readonly #source: PodLogSource
  readonly #onText: (text: string) => void
  #lastTime = ''
  /** Lines of that time that were passed on: more than one may have the same. */
  #numAtLastTime = 0
  #disconnect: () => void = () => {}

  constructor(source: PodLogSource, onText: (text: string) => void) {
    this.#source = source
    this.#onText = onText
  }

  /** Passes on what was not passed on before, until the container's end or the connection's. */
  async follow(): Promise<void> {
    const { api, namespace, pod, container } = this.#source
    const seconds = /^[^.]*/.exec(this.#lastTime)?.[0] ?? ''
    const response = await api.stream(
      `/api/v1/namespaces/${namespace}/pods/${pod}/log`,
      {
        container,
        follow: 'true',
        timestamps: 'true',
        ...(seconds && { sinceTime: new Date(Number(seconds) * 1_000).toISOString() }),
      },
      LOG_TIMEOUT,
    )
    this.#disconnect = () => response.destroy()
    const take = this.#createLineFilter()
    let rest = ''
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
    for await (const chunk of response) {
      const lines = (rest + decoder.decode(chunk as Buffer, { stream: true })).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) take(`${line}\n`)
      if (rest.length > MAX_LINE) {
        take(rest)
        rest = ''
      }
    }
    if (rest !== '') take(rest)
  }

  /** Leaves out what an earlier `follow` has passed on: what is older, and so many of the same time. */
  #createLineFilter(): (line: string) => void {
    const [last, count] = [this.#lastTime, this.#numAtLastTime]
    let same = 0
    return (line) => {
      const space = line.indexOf(' ')
      const time = sortableTimeOf(line.slice(0, space))
      if (time === undefined) return this.#onText(line)
      if (last !== '' && time < last) return
      if (time === last && same++ < count) return
      this.#numAtLastTime = time === this.#lastTime ? this.#numAtLastTime + 1 : 1
      this.#lastTime = time
      this.#onText(line.slice(space + 1))
    }
  }

  disconnect(): void {
    this.#disconnect()
  }
}

/** RFC 3339 with up to nine digits of a second, as text that sorts. */
export function sortableTimeOf(text: string): string | undefined {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text)
  if (!match) return undefined
  const [, whole, part = '', zone] = match
  const seconds = Date.parse(`${whole}${zone}`) / 1_000
  return `${seconds}.${part.padEnd(9, '0')}`
}
