/** The event stream while the page is open. Silence shows that it is lost; it is then opened again with backoff. */
import { call, chunks } from './api.js'

/** The server sends something every second. After this many milliseconds of silence it counts as lost. */
const SILENCE = 6_000
const FIRST_WAIT = 500
const LONGEST_WAIT = 15_000

/**
 * `onEvent(name, data)`; `onState('connecting' | 'live')`, `onState('lost', { since, retryAt })`,
 * `onState('refused')` if the token is missing or wrong: there is no further attempt until `now()` is called.
 */
export class Stream {
  #onEvent
  #onState
  #wait = FIRST_WAIT
  #lostAt
  #timer
  #abort
  #run = 0

  constructor({ onEvent, onState }) {
    this.#onEvent = onEvent
    this.#onState = onState
    addEventListener('online', () => this.#hurry())
    addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') this.#hurry()
    })
  }

  /** Opens the stream at once. */
  now() {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#abort?.abort()
    void this.#follow(++this.#run)
  }

  #hurry() {
    if (this.#timer !== undefined) this.now()
  }

  async #follow(run) {
    const abort = new AbortController()
    this.#abort = abort
    let watch = setTimeout(() => abort.abort(), SILENCE)
    try {
      this.#onState('connecting')
      const response = await call('GET', 'api/events', { signal: abort.signal })
      let text = ''
      for await (const chunk of chunks(response)) {
        clearTimeout(watch)
        watch = setTimeout(() => abort.abort(), SILENCE)
        text = this.#take(text + chunk, run)
      }
    } catch (error) {
      if (run === this.#run && error.status === 401) return this.#onState('refused')
    } finally {
      clearTimeout(watch)
    }
    if (run === this.#run) this.#lose()
  }

  /** Emits all complete events, and returns the rest of the text. */
  #take(text, run) {
    const events = text.split('\n\n')
    const rest = events.pop()
    if (run !== this.#run) return ''
    for (const event of events) {
      const name = /^event: (.*)$/m.exec(event)?.[1]
      const data = /^data: (.*)$/m.exec(event)?.[1]
      if (!name || !data) continue
      if (name === 'snapshot') this.#live()
      this.#onEvent(name, JSON.parse(data))
    }
    return rest
  }

  #live() {
    this.#wait = FIRST_WAIT
    if (this.#lostAt !== null) this.#onState('live')
    this.#lostAt = null
  }

  #lose() {
    this.#lostAt ??= Date.now()
    const wait = this.#wait * (0.75 + Math.random() / 2)
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT)
    this.#onState('lost', { since: this.#lostAt, retryAt: Date.now() + wait })
    this.#timer = setTimeout(() => this.now(), wait)
  }
}
