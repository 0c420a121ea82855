/** Figures in a form for people. */

const SHORT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium' })

export function count(value) {
  return value < 1_000 ? String(Math.round(value)) : SHORT.format(value)
}

export function perSecond(value) {
  if (value === 0) return '0'
  return value < 10 ? value.toFixed(1) : count(value)
}

export function milliseconds(value) {
  if (value === null || value === undefined) return '–'
  if (value < 1) return `${value.toFixed(2)} ms`
  if (value < 10) return `${value.toFixed(1)} ms`
  return value < 1_000 ? `${Math.round(value)} ms` : seconds(value / 1_000)
}

function seconds(value) {
  return value < 10 ? `${value.toFixed(1)} s` : age(value * 1_000)
}

export function age(ms) {
  const s = Math.max(0, Math.floor(ms / 1_000))
  if (s < 60) return `${s} s`
  if (s < 3_600) return `${Math.floor(s / 60)} min`
  return s < 172_800 ? `${Math.floor(s / 3_600)} h` : `${Math.floor(s / 86_400)} d`
}

export function clock(at) {
  return CLOCK.format(at)
}

export function plural(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`
}
