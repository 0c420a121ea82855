/** One cluster on the page: its row of figures, and its instances while it is open. */
import { restartCluster, setSize } from './actions.js'
import { copyOf, setAttribute, setClass, setHidden, setText } from './dom.js'
import { count, milliseconds, perSecond, plural } from './format.js'
import { draw, History } from './history.js'
import { InstanceList } from './instances.js'
import { openClusterLog } from './logs.js'

const STATES = ['ready', 'starting', 'pending', 'unready', 'draining']
const HISTORIES = ['rate', 'p50', 'p99', 'queue', 'size', 'ready']

/** The state of a cluster in one word. */
export function healthOf({ size, states, failure, failing }) {
  const ready = states.ready ?? 0
  if (size > 0 && ready === 0) return failure ? 'down' : 'starting'
  if (failure || failing > 0) return 'failing'
  if (ready < size) return 'starting'
  return size === 0 ? 'at zero' : 'healthy'
}

/** The reason of its failure in one line, without the words that the row shows already. */
function reasonOf({ url, failure }) {
  const [line] = failure?.split('\n', 1) ?? ['']
  return line.replace(`${url}: `, '').replace(/^\S+ could not be started: /, '')
}

export class ClusterView {
  row
  element = copyOf('cluster')
  isVisible = false
  #histories = Object.fromEntries(HISTORIES.map((name) => [name, new History()]))
  #nodes
  #instances
  #isStale = true
  #isMoved = true

  constructor(row) {
    this.row = row
    const find = (selector) => this.element.querySelector(selector)
    this.#nodes = {
      name: find('.name'),
      badge: find('.badge'),
      why: find('.why'),
      up: find('.value.up'),
      rate: find('.value.rate'),
      p50: find('.p50'),
      p99: find('.p99'),
      queue: find('.value.queue'),
      states: find('.states'),
      sizer: find('.sizer'),
      size: find('.sizer input'),
      set: find('.set'),
      detail: find('.detail'),
      facts: find('.facts'),
      failure: find('.failure'),
      expander: find('.expander'),
    }
    this.#label()
    this.#listen()
  }

  get isOpen() {
    return this.#instances !== undefined
  }

  get name() {
    return this.row.name
  }

  take(row) {
    this.row = row
    this.#isStale = true
  }

  /** Adds the figures of one second to the histories. */
  tick() {
    const { rate, p50, p99, queue, size, states } = this.row
    const values = { rate, p50, p99, queue, size, ready: states.ready ?? 0 }
    for (const name of HISTORIES) this.#histories[name].push(values[name])
    this.#isMoved = true
  }

  /** Adds a gap to the histories: no figures came until the next tick. */
  gap() {
    for (const name of HISTORIES) this.#histories[name].push(undefined)
    this.#isMoved = true
  }

  end(event) {
    this.#instances?.end(event)
  }

  refresh() {
    return this.#instances?.refresh()
  }

  /** Updates the page where something has changed. Lines are drawn only while they are visible. */
  render() {
    if (this.#isStale) this.#showFigures()
    this.#isStale = false
    if (!this.#isMoved || !this.isVisible) return
    this.#drawLines()
    this.#isMoved = false
  }

  #label() {
    const { name } = this.row
    const label = (selector, text) =>
      this.element.querySelector(selector).setAttribute('aria-label', text)
    label('.less', `Decrease the size of ${name} by one`)
    label('.more', `Increase the size of ${name} by one`)
    label('.sizer input', `Size wanted for ${name}`)
    label('.set', `Set the size of ${name}`)
    label('.actions .logs', `Log of ${name}`)
    label('.actions .restart', `Restart ${name}`)
  }

  #listen() {
    const { expander, sizer, size, set } = this.#nodes
    const on = (selector, act) =>
      this.element.querySelector(selector).addEventListener('click', (event) => act(event.target))
    expander.addEventListener('click', () => this.toggle())
    on('.actions .logs', (button) => openClusterLog(this.name, button))
    on('.actions .restart', () => restartCluster(this.name))
    on('.less', () => this.#resize(this.row.size - 1))
    on('.more', () => this.#resize(this.row.size + 1))
    size.addEventListener('input', () => setHidden(set, size.value === String(this.row.size)))
    size.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') this.#forget()
    })
    sizer.addEventListener('submit', (event) => {
      event.preventDefault()
      if (size.value !== '') void this.#resize(Number(size.value))
    })
  }

  async #resize(size) {
    if (size < 0) return
    // The new size comes with the stream. Until then a second click counts from this one.
    const { row } = this
    if (await setSize(row, size)) {
      if (this.row.size === row.size) this.take({ ...this.row, size })
      this.#forget()
    }
  }

  #forget() {
    const { set, size } = this.#nodes
    if (document.activeElement === set) size.focus()
    setHidden(set, true)
    size.value = this.row.size
    this.#isStale = true
  }

  toggle() {
    const { detail, expander } = this.#nodes
    if (this.#instances) {
      this.#instances = undefined
      this.element.querySelector('.instances tbody').replaceChildren()
    } else {
      this.#instances = new InstanceList(this, detail, expander)
      void this.#instances.refresh()
    }
    setHidden(detail, !this.isOpen)
    setAttribute(expander, 'aria-expanded', String(this.isOpen))
    setClass(this.element, 'open', this.isOpen)
  }

  #showFigures() {
    const { row } = this
    const node = this.#nodes
    const health = healthOf(row)
    const ready = row.states.ready ?? 0
    setText(node.name, row.name)
    setText(node.badge, health)
    if (node.badge.dataset.health !== health) node.badge.dataset.health = health
    const why = reasonOf(row)
    setText(node.why, why)
    setHidden(node.why, why === '')
    if (node.why.title !== why) node.why.title = why
    setText(node.up, `${ready} / ${row.size} ready`)
    setText(node.rate, perSecond(row.rate))
    setText(node.p50, milliseconds(row.p50))
    setText(node.p99, milliseconds(row.p99))
    setHidden(node.p99, row.p99 === null)
    setText(
      node.queue,
      row.queue === 0 ? '0' : `${count(row.queue)} · ${milliseconds(row.oldestAge)}`,
    )
    if (node.set.hidden && node.size.value !== String(row.size)) node.size.value = row.size
    setAttribute(node.size, 'max', String(row.maxSize ?? 100_000))
    this.#showStates()
    const max = row.maxSize === null ? 'any number' : row.maxSize
    setText(
      node.facts,
      `${row.url}: size ${row.minSize} to ${max}, ${plural(row.concurrency, 'slot')} for each instance, ` +
        `${row.inFlight} in flight, ${plural(row.resends, 'resend')} so far`,
    )
    setHidden(node.failure, !row.failure?.includes('\n'))
    setText(node.failure, row.failure ?? '')
  }

  #showStates() {
    const { states } = this.#nodes
    const { row } = this
    const missing = Math.max(0, row.size - Object.values(row.states).reduce((a, b) => a + b, 0))
    const parts = [...STATES.map((state) => [state, row.states[state] ?? 0]), ['missing', missing]]
    parts.forEach(([state, size], index) => {
      let part = states.children[index]
      if (!part) {
        part = states.appendChild(document.createElement('span'))
        part.dataset.state = state
      }
      if (part.style.flexGrow !== String(size)) part.style.flexGrow = String(size)
    })
  }

  #drawLines() {
    const { rate, p50, p99, queue, size, ready } = this.#histories
    const lines = (kind) => this.element.querySelectorAll(`.spark.${kind} path`)
    const [under, over] = lines('latency')
    draw(p99, p99.max, under)
    draw(p50, p99.max, over)
    for (const [kind, history] of [
      ['rate', rate],
      ['queue', queue],
    ]) {
      const [area, line] = lines(kind)
      draw(history, history.max, line, area)
    }
    const [area, line] = lines('size')
    const max = Math.max(size.max, ready.max)
    draw(ready, max, undefined, area)
    draw(size, max, line)
  }
}
