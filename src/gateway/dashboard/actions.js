/** Actions on clusters and instances. Actions that cannot be undone need a confirmation. The page shows the outcome. */
import { call, clusterPath, instancePath } from './api.js'
import { byId } from './dom.js'

let toastTimer
/** Settles the confirmation that is open. */
let answer

export function say(text, isWrong = false) {
  const toast = byId('toast')
  toast.classList.toggle('wrong', isWrong)
  toast.textContent = text
  toast.hidden = false
  clearTimeout(toastTimer)
  toastTimer = setTimeout(() => {
    toast.hidden = true
  }, 6_000)
}

/** Resolves with whether the user agreed. The dialog returns the focus by itself. */
function confirmed(title, text, verb) {
  const dialog = byId('confirm')
  byId('confirm-title').textContent = title
  byId('confirm-text').textContent = text
  byId('confirm-yes').textContent = verb
  answer?.(false)
  dialog.returnValue = 'no'
  dialog.showModal()
  return new Promise((resolve) => {
    answer = resolve
  })
}

byId('confirm').addEventListener('close', ({ target }) => {
  // `close` comes late: if the next dialog is open already, the event belongs to the one before.
  if (!target.open) answer?.(target.returnValue === 'yes')
})

async function tried(what, work) {
  try {
    await work()
    say(what)
    return true
  } catch (error) {
    say(`${what}: failed. ${error.message}`, true)
    return false
  }
}

/** Resolves with whether the size was set. */
export async function setSize({ name, size: before }, size) {
  if (size === 0 && before > 0) {
    const text = 'All its instances stop. Requests wait until the size is above zero again.'
    if (!(await confirmed(`Scale ${name} to zero?`, text, 'Scale to zero'))) return false
  }
  return tried(`${name}: size set to ${size}`, () =>
    call('PUT', clusterPath(name, '/size'), { body: { size } }),
  )
}

export async function restartCluster(name) {
  const text =
    'Each instance is replaced by a new one that is ready before the old one stops. No request is lost.'
  if (!(await confirmed(`Restart ${name}?`, text, 'Restart'))) return
  await tried(`${name}: restarting`, () => call('POST', clusterPath(name, '/restart')))
}

export async function restartInstance(name, id) {
  const text =
    'A new instance replaces it. When the new one is ready, this one completes its requests and stops.'
  if (!(await confirmed(`Restart ${id}?`, text, 'Restart'))) return
  await tried(`${id}: restarting`, () => call('POST', instancePath(name, id, '/restart')))
}

export async function drainInstance(name, id) {
  const text =
    'It gets no new requests, completes the ones that it has, and stops. Another instance is started if the size asks for it.'
  if (!(await confirmed(`Drain ${id}?`, text, 'Drain'))) return
  await tried(`${id}: draining`, () => call('POST', instancePath(name, id, '/drain')))
}
