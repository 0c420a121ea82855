/** The instances of one open cluster: fetched while they are visible, one row for each id. */
import { drainInstance, restartInstance } from './actions.js'
import { call, clusterPath } from './api.js'
import { copyOf, setHidden, setText } from './dom.js'
import { age, clock, count, plural } from './format.js'
import { openInstanceLog } from './logs.js'

/** Maximum number of rows; instances that are not ready come first. */
const SHOWN = 200
/** Ended instances that are still shown, and for how many milliseconds. */
const ENDED = 5
const ENDED_SHOWN = 120_000
/** Minimum milliseconds between two fetches: a cluster that starts has an event for each of its instances. */
const PAUSE = 150
/** Milliseconds of a frame that may be spent on one list. */
const BUDGET = 3

export class InstanceList {
  #cluster
  #detail
  #body
  #fallback
  #rows = new Map()
  #ended = []
  #asking
  #isAskedAgain = false
  #run = 0

  /** `cluster` has `row`, the latest figures. `fallback` gets the focus when the row that has it is removed. */
  constructor(cluster, detail, fallback) {
    this.#cluster = cluster
    this.#detail = detail
    this.#fallback = fallback
    this.#body = detail.querySelector('.instances tbody')
    setText(detail.querySelector('caption'), `Instances of ${cluster.row.name}`)
  }

  /** Shows that an instance has ended, although it is no longer in the list. */
  end({ instance, state, reason, at }) {
    this.#ended = [{ instance, state, reason, at }, ...this.#ended].slice(0, ENDED)
  }

  /** Fetches the instances and shows them; never twice at the same time. */
  refresh() {
    if (this.#asking) {
      this.#isAskedAgain = true
      return this.#asking
    }
    this.#asking = this.#ask().finally(async () => {
      await new Promise((resolve) => setTimeout(resolve, PAUSE))
      this.#asking = undefined
      if (!this.#isAskedAgain) return
      this.#isAskedAgain = false
      void this.refresh()
    })
    return this.#asking
  }

  async #ask() {
    try {
      const response = await call('GET', clusterPath(this.#cluster.row.name))
      const { instances, concurrency } = await response.json()
      requestAnimationFrame(() => this.#show(instances, concurrency))
    } catch {
      // The stream reports a lost server. The next snapshot fetches again.
    }
  }

  #show(instances, concurrency) {
    const isCalm = ({ state }) => state === 'ready'
    const listed =
      instances.length <= SHOWN
        ? instances
        : [...instances.filter((one) => !isCalm(one)), ...instances.filter(isCalm)].slice(0, SHOWN)
    const ids = new Set(listed.map(({ id }) => id))
    for (const [id, row] of this.#rows) {
      if (ids.has(id)) continue
      if (row.contains(document.activeElement)) this.#fallback.focus()
      row.remove()
      this.#rows.delete(id)
    }
    this.#fill(listed, concurrency, 0)
    const more = this.#detail.querySelector('.more-instances')
    setHidden(more, instances.length <= SHOWN)
    setText(more, `and ${plural(instances.length - SHOWN, 'more instance')}, all alike`)
    this.#showEnded()
  }

  /** Some rows per frame, so that the page stays responsive while a long list is drawn. */
  #fill(listed, concurrency, from) {
    const run = ++this.#run
    const end = performance.now() + BUDGET
    let index = from
    for (; index < listed.length && performance.now() < end; index++) {
      const row = this.#rowOf(listed[index])
      const at = this.#body.children[index]
      if (at !== row) this.#body.insertBefore(row, at ?? null)
      update(row, listed[index], concurrency)
    }
    if (index === listed.length) return
    requestAnimationFrame(() => {
      if (this.#run === run) this.#fill(listed, concurrency, index)
    })
  }

  #showEnded() {
    const section = this.#detail.querySelector('.ended')
    const lately = this.#ended.filter(({ at }) => Date.now() - at < ENDED_SHOWN)
    setHidden(section, lately.length === 0)
    const texts = lately.map(
      ({ instance, state, reason, at }) =>
        `${clock(at)}  ${instance} ${state}${reason ? `: ${reason}` : ''}`,
    )
    const list = section.querySelector('ul')
    while (list.children.length > texts.length) list.lastChild.remove()
    texts.forEach((text, index) => {
      const item = list.children[index] ?? list.appendChild(document.createElement('li'))
      setText(item, text)
    })
  }

  #rowOf({ id }) {
    let row = this.#rows.get(id)
    if (row) return row
    row = copyOf('instance')
    const { name } = this.#cluster.row
    setText(row.querySelector('th'), id)
    const act = { logs: openInstanceLog, drain: drainInstance, restart: restartInstance }
    for (const [kind, action] of Object.entries(act)) {
      const button = row.querySelector(`.${kind}`)
      button.setAttribute('aria-label', `${button.textContent} ${id}`)
      button.addEventListener('click', () => action(name, id, button))
    }
    this.#rows.set(id, row)
    return row
  }
}

function update(row, { state, inFlight, served, startedAt, address }, concurrency) {
  const shown = row.querySelector('.state')
  if (shown.dataset.state !== state) shown.dataset.state = state
  setText(shown, state)
  setText(row.querySelector('.load'), `${inFlight} / ${concurrency}`)
  setText(row.querySelector('.served'), count(served))
  setText(row.querySelector('.age'), age(Date.now() - startedAt))
  setText(row.querySelector('.address'), address ?? '')
}
