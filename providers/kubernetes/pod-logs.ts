/** The output of a container. The cluster keeps it by lines, each with its time, so that reading can go on after a break. */
import type { PodContainer } from './exec.ts'

/** How long the response to a request for the output may take, in ms. */
const LOG_TIMEOUT = 30_000
/** Longest line that is passed on as a whole, in characters. */
const MAX_LINE = 65_536

export class PodLogs {
  readonly #source: PodContainer
  readonly #onText: (text: string) => void
  /** The time of the last line that was passed on. */
  #lastTime = ''
  /** Number of lines of that time that were passed on: several lines may have the same time. */
  #numAtLastTime = 0
  #disconnect: () => void = () => {}

  constructor(source: PodContainer, onText: (text: string) => void) {
    this.#source = source
    this.#onText = onText
  }

  /** Passes on the lines that were not passed on before, until the end of the container or of the connection. */
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

  /** Leaves out the lines that an earlier `follow` has passed on: all older ones, and the same number of the last time. */
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

/** A time of RFC 3339, with up to nine digits of a second, as text that sorts. */
export function sortableTimeOf(text: string): string | undefined {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text)
  if (!match) return undefined
  const [, whole, part = '', zone] = match
  const seconds = Date.parse(`${whole}${zone}`) / 1_000
  return `${seconds}.${part.padEnd(9, '0')}`
}
