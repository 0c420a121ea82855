/** `manyhost/gateway`: an HTTP server in front of a session. */
export type { ListenOption } from '../core/listen-address.ts'
export type { AdminOptions } from './admin/options.ts'
export type { SessionWithMetrics } from './admin/server.ts'
export { createGateway, type Gateway } from './gateway.ts'
export type { GatewayOptions, GatewayTls } from './options.ts'
export type { Auth, Cors, RouteOptions } from './route-options.ts'
