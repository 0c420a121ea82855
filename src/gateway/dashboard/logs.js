/** Follows one log at a time, because a browser opens only few connections to one server. */
import { call, chunks, clusterPath, instancePath } from './api.js'
import { byId, framed } from './dom.js'

/** Characters that are kept. */
const KEPT = 400_000

class LogPane {
  #pane = byId('log')
  #text = byId('log-text')
  #state = byId('log-state')
  #abort
  #opener
  #waiting = ''
  #length = 0
  #flush = framed(() => this.#write())

  constructor() {
    byId('log-close').addEventListener('click', () => this.close())
    this.#pane.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.close()
    })
  }

  close() {
    this.#abort?.abort()
    this.#pane.hidden = true
    document.body.classList.remove('logging')
    this.#opener?.focus()
  }

  async open(title, path, opener) {
    this.#abort?.abort()
    const abort = new AbortController()
    this.#abort = abort
    this.#opener = opener
    this.#waiting = ''
    this.#length = 0
    this.#text.replaceChildren()
    this.#pane.hidden = false
    document.body.classList.add('logging')
    byId('log-title').textContent = title
    this.#state.textContent = 'following'
    this.#text.focus()
    try {
      const response = await call('GET', path, { signal: abort.signal })
      for await (const chunk of chunks(response)) {
        if (this.#abort !== abort) return
        this.#waiting = (this.#waiting + chunk).slice(-KEPT)
        this.#flush()
      }
      if (this.#abort === abort) this.#state.textContent = 'ended'
    } catch (error) {
      if (!abort.signal.aborted) this.#state.textContent = `ended: ${error.message}`
    }
  }

  #write() {
    const text = this.#text
    const isAtEnd = text.scrollTop + text.clientHeight >= text.scrollHeight - 24
    text.append(this.#waiting)
    this.#length += this.#waiting.length
    this.#waiting = ''
    while (this.#length > KEPT && text.firstChild !== text.lastChild) {
      this.#length -= text.firstChild.textContent.length
      text.firstChild.remove()
    }
    if (isAtEnd) text.scrollTop = text.scrollHeight
  }
}

const pane = new LogPane()

export function openClusterLog(name, opener) {
  void pane.open(`Log of ${name}`, clusterPath(name, '/logs?follow=1&lines=100'), opener)
}

export function openInstanceLog(name, id, opener) {
  void pane.open(`Log of ${id}`, instancePath(name, id, '/logs?follow=1&lines=500'), opener)
}
