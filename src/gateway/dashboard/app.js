/** The dashboard: events of the stream go into the views, and each frame draws the views that have changed. */
import { hasToken, setToken } from './api.js'
import { ClusterView, healthOf } from './cluster.js'
import { byId, framed, setClass, setHidden, setText } from './dom.js'
import { FailurePanel } from './failures.js'
import { clock, count, perSecond, plural } from './format.js'
import { Stream } from './stream.js'

/** Milliseconds of each frame that may be spent on the page. */
const BUDGET = 4

const views = new Map()
const waiting = new Map()
const panel = new FailurePanel()
const table = byId('clusters')
let hasFigures = false

const seen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) target.view.isVisible = isIntersecting
    render()
  },
  { rootMargin: '200px' },
)

const render = framed(() => {
  const end = performance.now() + BUDGET
  for (const [url, row] of waiting) {
    if (performance.now() > end) break
    waiting.delete(url)
    add(row)
  }
  for (const view of views.values()) view.render()
  panel.render()
  showTotals()
  if (waiting.size > 0) render()
})

function add(row) {
  const view = new ClusterView(row)
  view.element.view = view
  views.set(row.url, view)
  table.append(view.element)
  seen.observe(view.element)
  filter(view)
}

function remove(url) {
  waiting.delete(url)
  const view = views.get(url)
  if (!view) return
  seen.unobserve(view.element)
  view.element.remove()
  views.delete(url)
}

function onSnapshot({ whole, version, clusters, gone = [], failures = [] }) {
  if (whole) {
    hasFigures = true
    const urls = new Set(clusters.map(({ url }) => url))
    for (const url of [...views.keys(), ...waiting.keys()]) if (!urls.has(url)) remove(url)
    setText(byId('version'), version)
  }
  for (const url of gone) remove(url)
  for (const row of clusters) {
    const view = views.get(row.url)
    if (view) view.take(row)
    else waiting.set(row.url, row)
  }
  if (whole || failures.length > 0) panel.take(failures, whole === true)
  for (const view of views.values()) {
    if (!whole) view.tick()
    filter(view)
  }
  void refreshOpen()
  render()
}

let isRefreshing = false

/** Fetches the instances of the clusters that are open and visible, one cluster after the other. */
async function refreshOpen() {
  if (isRefreshing || document.visibilityState !== 'visible') return
  isRefreshing = true
  for (const view of [...views.values()]) if (view.isOpen && view.isVisible) await view.refresh()
  isRefreshing = false
}

function onEvent(name, data) {
  if (name === 'snapshot') return onSnapshot(data)
  if (name !== 'instance') return
  const view = views.get(data.service)
  if (!view?.isOpen) return
  if (data.state === 'failed' || data.state === 'stopped') view.end(data)
  if (view.isVisible) void view.refresh()
}

function filter(view) {
  const wanted = byId('filter').value.trim().toLowerCase()
  const isTroubled = !['healthy', 'at zero'].includes(healthOf(view.row))
  const isShown =
    view.row.url.toLowerCase().includes(wanted) &&
    (isTroubled || view.isOpen || !byId('troubled').checked)
  setHidden(view.element, !isShown)
}

function showTotals() {
  const total = { services: 0, ready: 0, size: 0, rate: 0, failing: 0, inFlight: 0, queue: 0 }
  let shown = 0
  let down = 0
  for (const { row, element } of views.values()) {
    total.services++
    total.ready += row.states.ready ?? 0
    for (const key of ['size', 'rate', 'failing', 'inFlight', 'queue']) total[key] += row[key]
    if (!element.hidden) shown++
    if (healthOf(row) === 'down') down++
  }
  const texts = {
    services: count(total.services),
    ready: `${count(total.ready)} / ${count(total.size)}`,
    rate: perSecond(total.rate),
    failing: perSecond(total.failing),
    inFlight: count(total.inFlight),
    queue: count(total.queue),
  }
  for (const [key, text] of Object.entries(texts)) {
    setText(document.querySelector(`[data-total=${key}]`), text)
  }
  setClass(document.querySelector('[data-total=failing]'), 'bad', total.failing > 0)
  const title = down > 0 ? `${plural(down, 'service')} down · manyhost` : 'manyhost'
  if (document.title !== title) document.title = title
  const empty = views.size > 0 ? 'No service matches the filter.' : 'This manyhost has no services.'
  setText(byId('empty'), hasFigures ? empty : 'Waiting for the first data.')
  setHidden(byId('empty'), shown > 0 || waiting.size > 0)
}

const STATES = { connecting: 'Connecting', live: 'Live', lost: 'Disconnected', refused: 'Locked' }
let countdown

function onState(state, { since, retryAt } = {}) {
  clearInterval(countdown)
  // During another attempt it is still disconnected: the banner stays, and screen readers announce it once.
  const isTrying = state === 'connecting' && !byId('banner').hidden
  if (!isTrying) {
    setText(byId('connection'), STATES[state])
    byId('connection').dataset.state = state
    setHidden(byId('banner'), state !== 'lost')
  }
  setClass(document.body, 'stale', state === 'lost' || isTrying)
  setHidden(byId('login'), state !== 'refused')
  setHidden(byId('main'), state === 'refused')
  if (state === 'refused') askForToken()
  if (state !== 'lost') return
  for (const view of views.values()) view.gap()
  render()
  const tell = () => {
    const left = Math.max(0, Math.ceil((retryAt - Date.now()) / 1_000))
    setText(
      byId('banner-text'),
      `The data is from ${clock(since)}. The next attempt is in ${plural(left, 'second')}.`,
    )
  }
  tell()
  countdown = setInterval(tell, 1_000)
}

function askForToken() {
  setText(byId('login-wrong'), hasToken() ? 'That token is not accepted.' : '')
  byId('token').select()
}

const stream = new Stream({ onEvent, onState })

byId('login').addEventListener('submit', (event) => {
  event.preventDefault()
  setToken(byId('token').value.trim())
  stream.now()
})
byId('retry').addEventListener('click', () => stream.now())
for (const id of ['filter', 'troubled']) {
  byId(id).addEventListener('input', () => {
    for (const view of views.values()) filter(view)
    render()
  })
}
stream.now()
