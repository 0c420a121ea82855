/** Two ways to put load on something: so many in flight at a time, and arrivals at given times. */
import { setTimeout as sleep } from 'node:timers/promises'

/** Keeps `inFlight` calls of `send` going for `ms`. @returns how many, calls a second, and CPU and wall time of one, in us */
export async function closedLoop(send, inFlight, ms) {
  const cpu = process.cpuUsage()
  const begun = performance.now()
  const end = begun + ms
  let count = 0
  const worker = async () => {
    while (performance.now() < end) {
      await send()
      count++
    }
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
  const took = performance.now() - begun
  const { user, system } = process.cpuUsage(cpu)
  return {
    count,
    rate: (1_000 * count) / took,
    cpu: (user + system) / count,
    wall: (1_000 * took) / count,
  }
}

/** Calls `send(index)` at each of the times (ms from now on), whatever came of the earlier ones: an open loop. */
export async function openLoop(times, send) {
  const begun = performance.now()
  const sent = []
  for (let i = 0; i < times.length; ) {
    const early = times[i] - (performance.now() - begun)
    if (early > 0) await sleep(early)
    else sent.push(send(i++))
  }
  return Promise.all(sent)
}
