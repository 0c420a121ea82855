/** Connections to the server in a pod: straight to its address, or through the API server. */
import type { Pool } from 'undici'
import type { StartSpec } from '../../src/core/provider.ts'
import { sleep } from '../../src/core/time.ts'
import { endpointOf, openPool, tcpProbe } from '../shared/endpoint.ts'
import type { KubernetesApi } from './api.ts'
import { openPortForward } from './port-forward.ts'

export interface PodConnection {
  readonly pool: Pool
  readonly address: string
  accepts(signal: AbortSignal): Promise<void>
}

export interface PodAddress {
  readonly api: KubernetesApi
  readonly namespace: string
  readonly pod: string
  readonly ip: string
  readonly port: number
  readonly reach: 'pod-ip' | 'forward'
  readonly spec: StartSpec
}

/** A node that refuses a forwarded connection says so within this time, in ms. It never says that it accepts one. */
const REFUSAL_TIMEOUT = 250

export function connectToPod({
  api,
  namespace,
  pod,
  ip,
  port,
  reach,
  spec,
}: PodAddress): PodConnection {
  const endpoint = endpointOf({ host: ip, port })
  if (reach === 'pod-ip') {
    const pool = openPool(endpoint, spec)
    return { pool, address: endpoint.address, accepts: (signal) => tcpProbe(endpoint, signal) }
  }
  const open = () => openPortForward(api, namespace, pod, port)
  const connect = (_: unknown, callback: (error: Error | null, socket: unknown) => void): void => {
    open().then(
      (socket) => callback(null, socket),
      (error: Error) => callback(error, null),
    )
  }
  return {
    pool: openPool(endpoint, spec, connect as never),
    address: `${endpoint.address} by ${namespace}/${pod}`,
    accepts: async (signal) => {
      const socket = await open()
      const refused = new Promise<never>((_, reject) => {
        socket.on('error', reject)
        socket.once('close', () => reject(new Error('the connection was closed')))
      })
      socket.resume()
      const over = new AbortController()
      try {
        const silence = sleep(REFUSAL_TIMEOUT, AbortSignal.any([signal, over.signal]))
        await Promise.race([silence, refused])
      } finally {
        refused.catch(() => undefined)
        over.abort()
        socket.destroy()
      }
    },
  }
}
