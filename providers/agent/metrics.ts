/** The hub's figures for Prometheus, read when they are asked for. No label is an agent's name: those have no bound. */
import type { Registry } from 'prom-client'
import {
  type AddToSeries,
  type MetricDefinition,
  registerMetricSources,
} from '../../src/core/prometheus.ts'
import type { AgentHub } from './agent-hub.ts'

/** Name, kind, labels and meaning; docs/agents.md is held against this one by a test. */
export const AGENT_METRICS = {
  manyhost_agent_agents: ['gauge', 'state', 'Agents that are known: up, away, leaving'],
  manyhost_agent_places: ['gauge', 'state', 'Places of all agents: taken, free'],
  manyhost_agent_lanes: ['gauge', '', 'Connections to instances, open or on their way'],
  manyhost_agent_starts_waiting: ['gauge', '', 'Starts that no agent has room for'],
  manyhost_agent_departures_total: ['counter', 'how', 'Agents that went: left, evicted'],
  manyhost_agent_refusals_total: ['counter', '', 'Links that were not let in'],
  manyhost_agent_fenced_total: ['counter', '', 'Messages of agents that had been evicted'],
} as const satisfies Record<string, MetricDefinition>

const READERS: Record<keyof typeof AGENT_METRICS, (hub: AgentHub, add: AddToSeries) => void> = {
  manyhost_agent_agents: ({ agents }, add) => {
    for (const state of ['up', 'away', 'leaving']) add({ state }, 0)
    for (const { state } of agents) add({ state }, 1)
  },
  manyhost_agent_places: ({ agents }, add) => {
    for (const state of ['taken', 'free']) add({ state }, 0)
    for (const { maxInstances, instances, state } of agents) {
      add({ state: 'taken' }, instances.length)
      if (state === 'up') add({ state: 'free' }, Math.max(0, maxInstances - instances.length))
    }
  },
  manyhost_agent_lanes: ({ tunnels: lanes }, add) => add({}, lanes.size),
  manyhost_agent_starts_waiting: ({ numWaitingStarts: waiting }, add) => add({}, waiting),
  manyhost_agent_departures_total: ({ counts }, add) => {
    add({ how: 'left' }, counts.left)
    add({ how: 'evicted' }, counts.evicted)
  },
  manyhost_agent_refusals_total: ({ counts }, add) => add({}, counts.refused),
  manyhost_agent_fenced_total: ({ counts }, add) => add({}, counts.fenced),
}

/** @returns takes them out again */
export function registerAgentMetrics(registry: Registry, hub: AgentHub): () => void {
  const sources = Object.entries(AGENT_METRICS).map(([name, definition]) => {
    const read = READERS[name as keyof typeof AGENT_METRICS]
    return { name, definition, read: (add: AddToSeries) => read(hub, add) }
  })
  return registerMetricSources(registry, 'provider', sources)
}
