/** What an ideal queue would have done with the same requests. Times in ms. */

/** Response times under first come, first served, from one line, of `slots` servers. */
export function fcfs(requests, slots) {
  const order = requests.map((_, index) => index)
  order.sort((a, b) => requests[a].arrival - requests[b].arrival)
  const freeAt = new Float64Array(slots).fill(Number.NEGATIVE_INFINITY)
  const times = new Float64Array(requests.length)
  for (const index of order) {
    const { arrival, begun, ended } = requests[index]
    let earliest = 0
    for (let i = 1; i < slots; i++) if (freeAt[i] < freeAt[earliest]) earliest = i
    const end = Math.max(arrival, freeAt[earliest]) + ended - begun
    freeAt[earliest] = end
    times[index] = end - arrival
  }
  return times
}

/**
 * Shares of the slot-seconds in which slots were idle while requests waited: `strict` counts all idle slots
 * whenever any request waits, `possible` no more of them than requests wait. A request waits from its arrival to the
 * moment when a server takes it up, so the way to the server counts as waiting.
 */
export function idleWhileWaiting(requests, slots) {
  const events = []
  for (const { arrival, begun, ended } of requests) {
    events.push([arrival, 1, 0], [begun, -1, 1], [ended, 0, -1])
  }
  events.sort((a, b) => a[0] - b[0])
  let [waiting, busy, strict, possible] = [0, 0, 0, 0]
  let last = events[0][0]
  for (const [at, joins, takes] of events) {
    const idle = slots - busy
    if (waiting > 0) {
      strict += (at - last) * idle
      possible += (at - last) * Math.min(idle, waiting)
    }
    last = at
    waiting += joins
    busy += takes
  }
  const all = slots * (last - events[0][0])
  return { strict: strict / all, possible: possible / all }
}
