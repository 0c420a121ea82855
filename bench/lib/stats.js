/** Arithmetic on samples, and randomness that repeats. */
export function quantile(values, share) {
  if (values.length === 0) return Number.NaN
  const sorted = Float64Array.from(values).sort()
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]
}

export function median(values) {
  return quantile(values, 0.5)
}

export function mean(values) {
  let sum = 0
  for (const value of values) sum += value
  return sum / values.length
}

/** mulberry32: a seeded generator of numbers in [0, 1). */
export function random(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    return uniform(state)
  }
}

function uniform(state) {
  let t = Math.imul(state ^ (state >>> 15), state | 1)
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
  return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
}

/** A number in [0, 1) that belongs to this text: the same in every process. */
export function drawn(text) {
  let hash = 0x811c9dc5
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193)
  return uniform((hash + 0x6d2b79f5) >>> 0)
}

export function exponential(share, average) {
  return -Math.log(1 - share) * average
}

/** Arrival times in ms, Poisson, `rate` a second. */
export function poisson(count, rate, seed) {
  const next = random(seed)
  const times = new Float64Array(count)
  let time = 0
  for (let i = 0; i < count; i++) {
    time += exponential(next(), 1_000 / rate)
    times[i] = time
  }
  return times
}
