/**
 * Metrics of the hub for Prometheus. They are read when Prometheus asks for them. The name of an agent is no label, because
 * the number of names is not bounded.
 */
import type { Registry } from 'prom-client'
import {
  type AddToSeries,
  type MetricDefinition,
  registerMetricSources,
} from '../../src/core/prometheus.ts'
import type { AgentHub } from './agent-hub.ts'

/** Name, kind, labels and meaning of each. A test compares the table in docs/agents.md with this one. */
export const AGENT_METRICS = {
  manyhost_agent_agents: ['gauge', 'state', 'Agents that are known: up, away, leaving'],
  manyhost_agent_places: [
    'gauge',
    'state',
    'Instances that all agents together may run: taken, free',
  ],
  manyhost_agent_lanes: ['gauge', '', 'Tunnels to instances that are open or being opened'],
  manyhost_agent_starts_waiting: ['gauge', '', 'Starts that wait for an agent with free capacity'],
  manyhost_agent_departures_total: ['counter', 'how', 'Agents that have gone: left, evicted'],
  manyhost_agent_refusals_total: ['counter', '', 'Links that were refused'],
  manyhost_agent_fenced_total: [
    'counter',
    '',
    'Messages that were refused because their agent was evicted before',
  ],
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
  manyhost_agent_lanes: ({ tunnels }, add) => add({}, tunnels.size),
  manyhost_agent_starts_waiting: ({ numWaitingStarts }, add) => add({}, numWaitingStarts),
  manyhost_agent_departures_total: ({ counts }, add) => {
    add({ how: 'left' }, counts.left)
    add({ how: 'evicted' }, counts.evicted)
  },
  manyhost_agent_refusals_total: ({ counts }, add) => add({}, counts.refused),
  manyhost_agent_fenced_total: ({ counts }, add) => add({}, counts.fenced),
}

/** @returns a function that removes the metrics again */
export function registerAgentMetrics(registry: Registry, hub: AgentHub): () => void {
  const sources = Object.entries(AGENT_METRICS).map(([name, definition]) => {
    const read = READERS[name as keyof typeof AGENT_METRICS]
    return { name, definition, read: (add: AddToSeries) => read(hub, add) }
  })
  return registerMetricSources(registry, 'provider', sources)
}
