/** What people do to clusters and instances: asked back where it cannot be taken back, and its outcome told. */
import { call, clusterPath, instancePath } from './api.js'
import { byId } from './dom.js'

let toastTimer
/** Takes the answer to the question that is open. */
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

/** Resolves with whether it was agreed to. The dialog gives the focus back by itself. */
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
  // `close` comes late: when the next question is asked already, it is of the one before.
  if (!target.open) answer?.(target.returnValue === 'yes')
})

async function tried(what, work) {
  try {
    await work()
    say(what)
    return true
  } catch (error) {
    say(`${what}: this failed. ${error.message}`, true)
    return false
  }
}

/** Resolves with whether it was set. */
export async function setSize({ name, size: before }, size) {
  if (size === 0 && before > 0) {
    const text = 'All its instances stop. Requests wait until it has a size again.'
    if (!(await confirmed(`Scale ${name} to zero?`, text, 'Scale to zero'))) return false
  }
  return tried(`${name}: ${size} wanted`, () =>
    call('PUT', clusterPath(name, '/size'), { body: { size } }),
  )
}

export async function restartCluster(name) {
  const text = 'Each instance is replaced by one that is ready before it goes. No request is lost.'
  if (!(await confirmed(`Restart ${name}?`, text, 'Restart'))) return
  await tried(`${name}: restarting`, () => call('POST', clusterPath(name, '/restart')))
}

export async function restartInstance(name, id) {
  const text = 'It goes when another one is ready. What it serves, it ends first.'
  if (!(await confirmed(`Restart ${id}?`, text, 'Restart'))) return
  await tried(`${id}: restarting`, () => call('POST', instancePath(name, id, '/restart')))
}

export async function drainInstance(name, id) {
  const text =
    'It gets no new request, ends what it serves, and stops. Another one takes its place.'
  if (!(await confirmed(`Drain ${id}?`, text, 'Drain'))) return
  await tried(`${id}: draining`, () => call('POST', instancePath(name, id, '/drain')))
}
