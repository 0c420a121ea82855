/** The hub's figures for Prometheus, read when they are asked for. No label is an agent's name: those have no bound. */
import { Counter, Gauge, type Registry } from 'prom-client'
import type { Hub } from './hub.ts'

/** Name, labels and meaning; docs/agents.md is held against this one by a test. */
export const AGENT_METRICS = {
  manyhost_agent_agents: ['state', 'Agents that are known: up, away, leaving'],
  manyhost_agent_places: ['state', 'Places of all agents: taken, free'],
  manyhost_agent_lanes: ['', 'Connections to instances, open or on their way'],
  manyhost_agent_starts_waiting: ['', 'Starts that no agent has room for'],
  manyhost_agent_departures_total: ['how', 'Agents that went: left, evicted'],
  manyhost_agent_refusals_total: ['', 'Links that were not let in'],
  manyhost_agent_fenced_total: ['', 'Messages of agents that had been evicted'],
} as const

export function registerMetrics(registry: Registry, hub: Hub): void {
  const registers = [registry]
  const common = (name: keyof typeof AGENT_METRICS) => {
    const [labels, help] = AGENT_METRICS[name]
    return { name, help, registers, labelNames: labels === '' ? [] : [labels] }
  }
  const gauge = (
    name: keyof typeof AGENT_METRICS,
    read: (set: (value: number, labels?: Record<string, string>) => void) => void,
  ) =>
    new Gauge({
      ...common(name),
      collect() {
        read((value, labels = {}) => this.set(labels, value))
      },
    })
  const counter = (
    name: keyof typeof AGENT_METRICS,
    read: (set: (value: number, labels?: Record<string, string>) => void) => void,
  ) =>
    new Counter({
      ...common(name),
      collect() {
        this.reset()
        read((value, labels = {}) => this.inc(labels, value))
      },
    })
  gauge('manyhost_agent_agents', (set) => {
    const counts = { up: 0, away: 0, leaving: 0 }
    for (const { state } of hub.agents) counts[state]++
    for (const [state, count] of Object.entries(counts)) set(count, { state })
  })
  gauge('manyhost_agent_places', (set) => {
    let [taken, free] = [0, 0]
    for (const { places, instances, state } of hub.agents) {
      taken += instances.length
      if (state === 'up') free += Math.max(0, places - instances.length)
    }
    set(taken, { state: 'taken' })
    set(free, { state: 'free' })
  })
  gauge('manyhost_agent_lanes', (set) => set(hub.lanes.size))
  gauge('manyhost_agent_starts_waiting', (set) => set(hub.waiting))
  counter('manyhost_agent_departures_total', (set) => {
    set(hub.counts.left, { how: 'left' })
    set(hub.counts.evicted, { how: 'evicted' })
  })
  counter('manyhost_agent_refusals_total', (set) => set(hub.counts.refused))
  counter('manyhost_agent_fenced_total', (set) => set(hub.counts.fenced))
}
