/** A real Prometheus scrapes /metrics: series, rates, quantiles, the shipped alerts and the queries for Grafana. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { faults } from '../../providers/testing/index.ts'
import { sleep, until } from '../../src/core/time.ts'
import { METRICS } from '../../src/session/metrics.ts'
import {
  type AdminFixture,
  type Json,
  openAdminFixture,
  waitUntilReady,
} from '../gateway/admin-fixture.ts'
import { waitUntil } from '../help.ts'
import { withEngine } from './engine.ts'

const PROMETHEUS = '/usr/bin/prometheus'
const examples = new URL('../../examples/observability/', import.meta.url)
const read = (file: string): string => readFileSync(new URL(file, examples), 'utf8')

withEngine(PROMETHEUS, 'prometheus', () => {
  let served: AdminFixture
  let prometheus: ChildProcess
  let url: string
  let folder: string
  let isOver = false

  beforeAll(async () => {
    served = await openAdminFixture({ token: 's3cret' }, async (req, res) => {
      await sleep(req.url === '/slow' ? 80 : 3)
      res.end('ok')
    })
    const { session } = served
    session.startup({ url: 'http://calc', initSize: 2, concurrency: 4 })
    const provider = faults(served.provider, { startFailure: { percentage: 100 } })
    session.startup({ url: 'http://broken', initSize: 2, provider })
    await waitUntilReady(session, 'http://calc', 2)
    const client = session.client()
    for (let i = 0; i < 4; i++) {
      void (async () => {
        // Nine of ten are quick.
        for (let n = 0; !isOver; n++) {
          await client.get(`http://calc/${n % 10 === 0 ? 'slow' : ''}`).then(
            (r) => r.text(),
            () => undefined,
          )
        }
      })()
    }
    folder = mkdtempSync(join(tmpdir(), 'manyhost-prometheus-'))
    // The shipped rules, with the short times of a test.
    writeFileSync(
      join(folder, 'alerts.yaml'),
      read('alerts.yaml').replaceAll(/for: \d+m/g, 'for: 1s'),
    )
    const config = read('prometheus.yaml')
      .replace('scrape_interval: 15s', 'scrape_interval: 1s\n  evaluation_interval: 1s')
      .replace(/# authorization: .*/, 'authorization: { credentials: s3cret }')
      .replace('127.0.0.1:9090', `127.0.0.1:${served.port}`)
    writeFileSync(join(folder, 'prometheus.yaml'), config)
    const port = await freePort()
    url = `http://127.0.0.1:${port}`
    prometheus = spawn(
      PROMETHEUS,
      [
        `--config.file=${folder}/prometheus.yaml`,
        `--storage.tsdb.path=${folder}/data`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--log.level=warn',
        '--enable-feature=exemplar-storage',
      ],
      { stdio: ['ignore', 'inherit', 'inherit'] },
    )
    await waitForResult('up{job="manyhost"}', ([one]) => one?.value[1] === '1')
    await sleep(8_000)
  })
  afterAll(async () => {
    isOver = true
    const ended = new Promise((resolve) => prometheus?.once('exit', resolve))
    prometheus?.kill()
    await ended
    rmSync(folder, { recursive: true, force: true })
    await served[Symbol.asyncDispose]()
  })

  async function get(path: string): Promise<Json> {
    const body = (await (await fetch(url + path)).json()) as Json
    if (body.status !== 'success') throw new Error(JSON.stringify(body))
    return body.data
  }

  const query = async (text: string): Promise<Json[]> =>
    (await get(`/api/v1/query?query=${encodeURIComponent(text)}`)).result

  async function waitForResult(text: string, fits: (result: Json[]) => boolean): Promise<Json[]> {
    let result: Json[] = []
    const ask = async (): Promise<Json[] | false> => {
      result = await query(text)
      if (fits(result)) return result
      await sleep(300)
      return false
    }
    return waitUntil(ask, `the result of ${text}`, () => result)
  }

  test('scrapes without an error, and as OpenMetrics', async () => {
    const { activeTargets } = await get('/api/v1/targets')
    expect(activeTargets).toMatchObject([{ health: 'up', lastError: '' }])
    const metadata = await get('/api/v1/metadata')
    // In OpenMetrics the family of a counter has no _total.
    expect(metadata.manyhost_requests).toMatchObject([{ type: 'counter' }])
    expect(metadata.manyhost_request_duration_seconds).toMatchObject([{ type: 'histogram' }])
  })

  test('has every metric that README names', async () => {
    const names = new Set<string>(await get('/api/v1/label/__name__/values'))
    // Of what has not happened there are no series yet.
    const rare = ['manyhost_resends_total']
    for (const [name, [kind]] of Object.entries(METRICS)) {
      if (!rare.includes(name))
        expect([...names], name).toContain(kind === 'histogram' ? `${name}_bucket` : name)
    }
  })

  test('keeps the exemplars: a slow bucket leads to a request that was slow', async () => {
    const path = '/api/v1/query_exemplars?start=0&end=99999999999&query='
    const found: Json[] = await get(
      path + encodeURIComponent('manyhost_request_duration_seconds_bucket{service="http://calc"}'),
    )
    const slow = found
      .flatMap(({ exemplars }) => exemplars)
      .filter(({ value }: Json) => Number(value) > 0.08)
    expect(slow.length).toBeGreaterThan(0)
    for (const { labels } of slow) expect(labels.request_id).toMatch(/^[\w-]{8,40}$/)
  })

  test('rate() and histogram_quantile() say what is so', async () => {
    const before = served.session.cluster('http://calc').stats().completions
    const [{ value }] = (await query(
      'rate(manyhost_requests_total{service="http://calc",outcome="answered"}[5s])',
    )) as [Json]
    await sleep(5_000)
    const real = (served.session.cluster('http://calc').stats().completions - before) / 5
    expect(Number(value[1]) / real).toBeGreaterThan(0.4)
    expect(Number(value[1]) / real).toBeLessThan(2.5)
    const quantile = async (q: number): Promise<number> => {
      const text = `histogram_quantile(${q}, rate(manyhost_request_duration_seconds_bucket{service="http://calc"}[10s]))`
      const [one] = await query(text)
      return Number(one?.value[1])
    }
    expect(await quantile(0.5)).toBeLessThan(0.05)
    const slow = await quantile(0.99)
    expect(slow).toBeGreaterThan(0.05)
    expect(slow).toBeLessThan(0.5)
    const [one] = await query('manyhost_instances{service="http://calc",state="ready"}')
    expect(one?.value[1]).toBe('2')
  })

  test('the shipped alerts are well-formed, and fire for the service that is down', async () => {
    execFileSync('promtool', ['check', 'rules', new URL('alerts.yaml', examples).pathname])
    execFileSync('promtool', ['check', 'config', new URL('prometheus.yaml', examples).pathname])
    const firing = async (): Promise<Json[]> =>
      (await get('/api/v1/alerts')).alerts.filter(({ state }: Json) => state === 'firing')
    let fired: Json[] = []
    for (let i = 0; i < 60 && fired.length < 2; i++) {
      fired = await firing()
      await sleep(500)
    }
    const what = fired.map(({ labels }) => `${labels.alertname} ${labels.service}`).toSorted()
    expect(what).toEqual(['ManyhostServiceDown http://broken', 'ManyhostStartsFail http://broken'])
    expect(fired[0].annotations.summary).toMatch(/http:\/\/broken/)
  })

  test("Grafana's queries are answered with series", async () => {
    const { panels, templating } = JSON.parse(read('grafana-dashboard.json'))
    expect(templating.list.map(({ name }: Json) => name)).toEqual(['datasource', 'service'])
    served.provider.instances[0]?.kill()
    await until(() => served.session.cluster('http://calc').stats().resends > 0, 5_000)
    await waitForResult('sum(manyhost_resends_total)', ([one]) => Number(one?.value[1]) > 0)
    for (const { title, targets } of panels) {
      for (const { expr } of targets) {
        const text = expr.replaceAll('$service', '.*').replaceAll('$__rate_interval', '10s')
        const names = [...text.matchAll(/manyhost_\w+?(?=_bucket|\{)/g)].map(([name]) => name)
        expect(names.length, text).toBeGreaterThan(0)
        for (const name of names) expect(Object.keys(METRICS)).toContain(name)
        const isRare = /failed\|expired|resends/.test(text)
        const result = await query(text)
        if (!isRare) expect(result.length, `${title}: ${text}`).toBeGreaterThan(0)
      }
    }
  })
})

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const address = server.address() as { port: number }
      server.close(() => resolve(address.port))
    })
  })
}
