/** The panel of recent failures: the newest first, repeats counted. */
import { byId, copyOf, setHidden, setText } from './dom.js'
import { clock } from './format.js'

const SHOWN = 60
const KINDS = { error: 'error', instance: 'instance failed', resend: 'resent' }

export class FailurePanel {
  #list = byId('failures')
  #items = new Map()
  #failures = new Map()
  #isStale = false

  /** Takes all failures; with `isAll` false, only those that are new or have happened again. */
  take(failures, isAll) {
    if (isAll) this.#failures.clear()
    for (const failure of failures) this.#failures.set(failure.id, failure)
    this.#isStale = true
  }

  render() {
    if (!this.#isStale) return
    this.#isStale = false
    const newest = [...this.#failures.values()].sort((a, b) => b.at - a.at || b.id - a.id)
    for (const { id } of newest.splice(SHOWN)) this.#failures.delete(id)
    for (const [id, item] of this.#items) {
      if (this.#failures.has(id)) continue
      item.remove()
      this.#items.delete(id)
    }
    newest.forEach((failure, index) => {
      const item = this.#itemOf(failure)
      if (this.#list.children[index] !== item) {
        this.#list.insertBefore(item, this.#list.children[index] ?? null)
      }
    })
    setHidden(byId('no-failures'), newest.length > 0)
  }

  #itemOf(failure) {
    let item = this.#items.get(failure.id)
    if (!item) {
      item = copyOf('failure')
      item.dataset.kind = failure.kind
      this.#items.set(failure.id, item)
    }
    const { kind, service, instance, count, at, text, output } = failure
    setText(item.querySelector('.kind'), KINDS[kind] ?? kind)
    setText(item.querySelector('.where'), instance || service.replace(/^\w+:\/\//, ''))
    setText(item.querySelector('.count'), count > 1 ? `${count} times` : '')
    setText(item.querySelector('time'), clock(at))
    item.querySelector('time').dateTime = new Date(at).toISOString()
    const reason = text.replace(`${service}: `, '')
    setText(item.querySelector('.text'), kind === 'resend' ? `sent again: ${reason}` : reason)
    setHidden(item.querySelector('details'), !output)
    setText(item.querySelector('pre'), output ?? '')
    return item
  }
}
