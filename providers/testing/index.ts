/** For the tests of users: a provider without a port, and a layer of faults around any provider. */
export type { FaultCounts, FaultOptions, Percentage } from './fault-plan.ts'
export { type FaultyProvider, faults } from './faults.ts'
export type { NodeHandler, NodeRequest, Upgrade, WebHandler, WebRequest } from './handler.ts'
export { type InProcessOptions, type InProcessProvider, inProcess } from './in-process.ts'
export type { InProcessInstance } from './instance.ts'
