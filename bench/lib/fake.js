/** Instances in memory, without a network: a dispatcher that answers by itself, and a provider of them. */
import { Dispatcher } from 'undici'

const HEADERS = ['content-type', 'text/plain', 'content-length', '13'].map((text) =>
  Buffer.from(text),
)
const BODY = Buffer.from('Hello, world!')

/** Answers as an undici Client would call back, in the next turn of the event loop, or when `answerOne` is called. */
export class NullDispatcher extends Dispatcher {
  #waiting = []
  #keptBack = []
  #armed = false
  /** Keeps the answers of requests that come now back, for `answerOne`. */
  held = false

  dispatch(_options, handler) {
    handler.onConnect?.(() => {})
    if (this.held) this.#keptBack.push(handler)
    else this.#waiting.push(handler)
    if (!this.held && !this.#armed) {
      this.#armed = true
      setImmediate(() => this.#answerAll())
    }
    return true
  }

  #answerAll() {
    const handlers = this.#waiting
    this.#waiting = []
    this.#armed = false
    for (const handler of handlers) answer(handler)
  }

  answerOne() {
    const handler = this.#keptBack.shift()
    if (handler) answer(handler)
  }

  close() {
    return Promise.resolve()
  }

  destroy() {
    return Promise.resolve()
  }
}

function answer(handler) {
  handler.onHeaders(200, HEADERS, () => {}, 'OK')
  handler.onData(BODY)
  handler.onComplete([])
}

/** @param dispatcher one for all instances */
export function fake(dispatcher, onStart = () => {}) {
  return {
    name: 'fake',
    capabilities: new Set(),
    async start() {
      onStart()
      let setExited
      const exited = new Promise((resolve) => {
        setExited = resolve
      })
      const stop = async () => setExited({ reason: 'stopped', detail: 'stopped' })
      return { dispatcher, exited, stop }
    },
  }
}
