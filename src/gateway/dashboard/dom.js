/** Helpers that change the page, only where something is different. All text is set as text, never as markup. */

export const byId = (id) => document.getElementById(id)

/** A copy of the single element of a template. */
export function copyOf(id) {
  return byId(id).content.firstElementChild.cloneNode(true)
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text
}

export function setHidden(node, isHidden) {
  if (node.hidden !== isHidden) node.hidden = isHidden
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value)
}

export function setClass(node, name, isOn) {
  if (node.classList.contains(name) !== isOn) node.classList.toggle(name, isOn)
}

/** Runs `work` once in the next frame, however often it is requested. */
export function framed(work) {
  let isAsked = false
  return () => {
    if (isAsked) return
    isAsked = true
    requestAnimationFrame(() => {
      isAsked = false
      work()
    })
  }
}
