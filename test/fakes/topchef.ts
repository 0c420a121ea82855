/**
 * The original's server, as far as a worker sees it: `/jobs/next` shows the oldest job and claims nothing, `/next` is a
 * page of 404, there are no leases, and any change of a job is taken. Written after transcripts of the original.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'

interface TopChefJob {
  readonly id: string
  readonly parameters: object
  results: object | null
  status: string
}

export interface TopChefServer {
  /** URL of its one service. */
  readonly url: string
  readonly jobs: TopChefJob[]
  /** Each request: method, path, and the body if there was one. */
  readonly seen: string[]
  submit(parameters: object): TopChefJob
}

const SERVICE = '294b60e0-603a-4b98-b3f7-4b0485f3e871'

export async function openTopChef(): Promise<TopChefServer> {
  const jobs: TopChefJob[] = []
  const seen: string[] = []
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString()
    seen.push(`${request.method} ${request.url}${text && ` ${text}`}`)
    const answer = (status: number, body: object): void => {
      response.writeHead(status, { 'content-type': 'application/json' })
      response.end(JSON.stringify(body))
    }
    const page = (status: number): void => {
      response.writeHead(status, { 'content-type': 'text/html; charset=utf-8' })
      response.end(status === 204 ? '' : '<!doctype html><title>404 Not Found</title>')
    }
    const [, job] = /^\/jobs\/([\w-]+)$/.exec(request.url ?? '') ?? []
    if (request.url === `/services/${SERVICE}`) {
      if (request.method === 'PATCH') answer(200, { meta: 'Service checked in at now' })
      else answer(200, { data: { id: SERVICE, timeout: 30 }, links: {}, meta: {} })
    } else if (request.url === `/services/${SERVICE}/jobs/next`) {
      const next = jobs.find(({ status }) => status === 'REGISTERED')
      if (next) answer(200, { data: next, links: {}, meta: {} })
      else page(204)
    } else if (job !== undefined && request.method === 'PATCH') {
      const found = jobs.find(({ id }) => id === job)
      if (!found) return answer(404, { errors: [] })
      answer(200, Object.assign(found, JSON.parse(text)))
    } else page(404)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/services/${SERVICE}`,
    jobs,
    seen,
    submit(parameters) {
      const id = `7ad61965-70c0-4118-a413-b9dc47bb07${String(jobs.length).padStart(2, '0')}`
      const job: TopChefJob = { id, parameters, results: null, status: 'REGISTERED' }
      jobs.push(job)
      return job
    },
  }
}
