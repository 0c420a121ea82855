/** `manyhost serve`: its beginning, its changes, its end; no request lost over any of them. */
import { once } from 'node:events'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import {
  Agent,
  type ClientRequest,
  createServer,
  get,
  type IncomingMessage,
  request,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { waitUntil } from '../help.ts'
import {
  CALCULATOR,
  createFolder,
  fleetYaml,
  runManyhost,
  type ServingProgram,
  startLoad,
  startProgram,
  startServe,
} from './help.ts'

function lines(stdout: string): Record<string, unknown>[] {
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
}

// Each starts several processes, on a machine that may have other things to do.
vi.setConfig({ testTimeout: 300_000 })

/** Status of an answer whose body was read, and what it says of its connection. */
async function answer(asked: ClientRequest): Promise<unknown> {
  const [response] = (await once(asked, 'response')) as [IncomingMessage]
  response.resume()
  await once(response, 'end')
  return [response.statusCode, response.headers.connection]
}

/** Whether `/readyz` of an admin address in the file system says so. */
function isReady(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = get({ socketPath, path: '/readyz' }, (response) => {
      response.resume()
      resolve(response.statusCode === 200)
    })
    asked.once('error', () => resolve(false))
  })
}

async function inFlight({ admin }: ServingProgram, name: string): Promise<number> {
  const cluster = await (await fetch(`${admin}/api/clusters/${name}`)).json()
  return (cluster as { inFlight: number }).inFlight
}

/** A service that answers when a request has come whole. */
const SLOW = `
  http://slow:
    concurrency: 16
    command:
      - ${process.execPath}
      - -e
      - require('http').createServer((q,r)=>q.resume().on('end',()=>r.end('ok'))).listen(process.env.PORT,process.env.HOST)`

/** The second service of a fleet that grew. */
const SECOND = `
  http://sums:
    command: [${process.execPath}, ${CALCULATOR}]
    ready: /health`

describe('manyhost serve', () => {
  it('says where to look, in JSON', async () => {
    const served = await startServe(fleetYaml())
    const [{ msg, gateway, dashboard, metrics, services } = {}] = lines(served.stdout()).filter(
      (line) => 'gateway' in line,
    )
    expect(msg).toMatch(/^serving .*fleet.yaml: 1 service$/)
    expect(services).toEqual(['http://calc'])
    expect(await (await fetch(`${gateway}add/1/2`)).text()).toBe('3')
    expect(await (await fetch(String(dashboard))).text()).toContain('<!doctype html>')
    expect(await (await fetch(String(metrics))).text()).toContain('manyhost_requests_total')
    served.process.kill('SIGTERM')
    expect((await served.ended).code).toBe(0)
  })

  it('says where to look, for people', async () => {
    const file = join(createFolder({ 'fleet.yaml': fleetYaml() }), 'fleet.yaml')
    const pretty = startProgram(['serve', file, '--log', 'pretty'])
    await pretty.waitForOutput(
      /gateway +http:\/\/127.0.0.1:\d+\/calc\/\n +dashboard +http.*\n +metrics +http/,
    )
    await pretty.waitForOutput(/^\d\d:\d\d:\d\d info {2}http:\/\/calc: calc-\w+-1 is ready$/m)
    pretty.process.kill('SIGINT')
    expect(await pretty.ended).toMatchObject({ code: 0, stderr: '' })
  })

  it('says nothing when it is to be quiet', async () => {
    const socketPath = join(createFolder(), 'admin.sock')
    const text = fleetYaml().replace(/^admin.*$/m, `admin: { listen: 'unix:${socketPath}' }`)
    const silent = join(createFolder({ 'fleet.yaml': text }), 'fleet.yaml')
    const quiet = startProgram(['serve', silent, '--log', 'quiet'])
    await waitUntil(() => isReady(socketPath))
    quiet.process.kill('SIGINT')
    expect(await quiet.ended).toEqual({ code: 0, stdout: '', stderr: '' })
  })

  it('applies a changed file on SIGHUP, and loses no request', async () => {
    const served = await startServe(fleetYaml({ size: '2' }))
    const traffic = startLoad(`${served.gateway}/calc/add/1/2`)
    const { file } = served
    const changed = fleetYaml({ size: '3', more: '    env: { CHANGED: "1" }', services: SECOND })
    writeFileSync(file, changed.replace('concurrency: 4', 'concurrency: 3'))
    served.process.kill('SIGHUP')
    await served.waitForOutput(/"msg":".*fleet.yaml applied: 2 changes"/)
    expect(await (await fetch(`${served.gateway}/sums/add/2/2`)).text()).toBe('4')
    const { clusters } = JSON.parse(
      (await runManyhost(['status', '--json', '--admin', served.admin])).stdout,
    )
    expect(clusters).toMatchObject([{ size: 3, concurrency: 3 }, { url: 'http://sums' }])
    // Gone again, and reached by another name from now on.
    const more = '    gateway: { hosts: [other.example], auth: { bearer: [the-secret-word] } }'
    writeFileSync(file, fleetYaml({ size: '3', more }).replace('concurrency: 4', 'concurrency: 3'))
    const counts = traffic.stop()
    await counts
    served.process.kill('SIGHUP')
    await served.waitForOutput(/applied[\s\S]*applied: 2 changes/)
    expect((await fetch(`${served.gateway}/sums/add/2/2`)).status).toBe(404)
    expect((await fetch(`${served.gateway}/calc/add/2/2`)).status).toBe(401)
    expect(await counts).toEqual({ 200: expect.any(Number) })
    served.process.kill('SIGINT')
    const { code, stdout } = await served.ended
    expect(code).toBe(0)
    expect(stdout).not.toContain('the-secret-word')
  })

  it('applies what it can of the other sections, and names what only the next start will', async () => {
    const served = await startServe(fleetYaml())
    const ask = () => fetch(`${served.gateway}/calc/add/1/2`, { headers: { 'x-a': '1' } })
    expect((await ask()).status).toBe(200)
    const text = fleetYaml()
      .replace(
        /^gateway.*$/m,
        'gateway: { listen: 127.0.0.1:0, limits: { headerCount: 1, keepAlive: 1s } }',
      )
      .replace(/^admin.*$/m, 'admin: { listen: 127.0.0.1:0, token: the-secret-word }')
    writeFileSync(
      served.file,
      `${text}session: { budget: { instances: 3 } }\nlog: { level: debug }`,
    )
    served.process.kill('SIGHUP')
    await served.waitForOutput(/applied: nothing to change/)
    expect((await ask()).status).toBe(431)
    const warnings = lines(served.stdout()).filter(({ level }) => level === 'warn')
    expect(warnings.map(({ key, msg }) => [key, msg])).toEqual(
      ['session.budget', 'admin.token', 'gateway.limits.keepAlive'].map((key) => [
        key,
        `${key} has changed: that takes effect at the next start`,
      ]),
    )
    expect((await fetch(`${served.admin}/api/clusters`)).status).toBe(200)
    await runManyhost(['size', 'calc', '2', '--admin', served.admin])
    await served.waitForOutput(/"level":"debug"/)
    served.process.kill('SIGINT')
    const { stdout } = await served.ended
    expect(stdout).not.toContain('the-secret-word')
  })

  it('changes nothing by a wrong file, and says why', async () => {
    const served = await startServe(fleetYaml())
    const traffic = startLoad(`${served.gateway}/calc/add/1/2`)
    writeFileSync(served.file, fleetYaml({ size: '-3', more: '    comand: [x]' }))
    served.process.kill('SIGHUP')
    await served.waitForOutput(/nothing was changed/)
    const [line] = lines(served.stdout()).filter(({ msg }) => /wrong/.test(String(msg)))
    expect(line).toMatchObject({ level: 'error' })
    expect(line?.output).toMatch(/fleet.yaml:4:11: .*size[\s\S]*did you mean 'command'/)
    expect(await traffic.stop()).toEqual({ 200: expect.any(Number) })
    // A right file whose service does not come up: the old one stays.
    const bad = fleetYaml({ more: '    startTimeout: 500ms' }).replace(
      /command: .*/,
      'command: ["false"]',
    )
    const on = startLoad(`${served.gateway}/calc/add/1/2`)
    writeFileSync(served.file, bad)
    served.process.kill('SIGHUP')
    await served.waitForOutput(/could not be changed, and is as it was/)
    expect(await on.stop()).toEqual({ 200: expect.any(Number) })
  })

  it('--watch: applies the file when it changes, also when it is replaced', async () => {
    const served = await startServe(fleetYaml(), ['--watch'])
    const traffic = startLoad(`${served.gateway}/calc/add/1/2`, 4)
    writeFileSync(served.file, fleetYaml({ size: '2' }))
    await served.waitForOutput(/"change":"resized","msg"/)
    const next = `${served.file}.new`
    writeFileSync(next, fleetYaml({ size: '2', services: SECOND }))
    renameSync(next, served.file)
    await served.waitForOutput(/"msg":"http:\/\/sums: added"/)
    expect(await traffic.stop()).toEqual({ 200: expect.any(Number) })
    writeFileSync(served.file, 'services: [')
    await served.waitForOutput(/nothing was changed/)
  })

  it('drains on SIGINT: what is under way ends, open connections end with an answer', async () => {
    const served = await startServe(
      fleetYaml({ services: SLOW }).replace('gateway: {', '$& limits: { bodyRate: 0 },'),
    )
    const url = `${served.gateway}/slow/`
    const clients = await Promise.all(
      Array.from({ length: 16 }, async () => {
        const agent = new Agent({ keepAlive: true, maxSockets: 1 })
        expect(await answer(get(url, { agent }))).toEqual([200, 'keep-alive'])
        // Its body has no end yet, and so it is under way for as long as the test likes.
        const asked = request(url, { agent, method: 'POST' })
        asked.flushHeaders()
        return asked
      }),
    )
    await waitUntil(async () => (await inFlight(served, 'slow')) === 16)
    served.process.kill('SIGINT')
    await served.waitForOutput(/draining, 16 requests/)
    const answers = clients.map((asked) => answer(asked.end('the rest')))
    expect(await Promise.all(answers)).toEqual(Array(16).fill([200, 'close']))
    const { code, stdout } = await served.ended
    expect(code).toBe(0)
    expect(lines(stdout).at(-1)).toMatchObject({ msg: 'stopped' })
  })

  it('does not wait any more after a second signal', async () => {
    const hang = `
  http://hang:
    command: [${process.execPath}, -e, "require('http').createServer(()=>{}).listen(process.env.PORT,process.env.HOST)"]`
    const served = await startServe(fleetYaml({ services: hang }))
    const lost = fetch(`${served.gateway}/hang/`).catch(() => 'lost')
    await waitUntil(async () => (await inFlight(served, 'hang')) === 1)
    served.process.kill('SIGTERM')
    await served.waitForOutput(/draining, 1 requests/)
    served.process.kill('SIGTERM')
    expect((await served.ended).code).toBe(143)
    await lost
  })

  it('says in one line why it cannot begin', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    onTestFinished(() => void other.close())
    const { port } = other.address() as AddressInfo
    const taken = `127.0.0.1:${port}`
    const cwd = createFolder({
      'gateway.yaml': fleetYaml().replace(/^gateway.*$/m, `gateway: { listen: ${taken} }`),
      'admin.yaml': fleetYaml().replace(/^admin.*$/m, `admin: { listen: ${taken} }`),
      'strange.yaml': fleetYaml().replace(/^gateway.*$/m, 'gateway: { listen: 192.0.2.1:80 }'),
      'wrong.yaml': 'services: 3',
    })
    const said = async (file: string) => {
      const { code, stdout, stderr } = await runManyhost(['serve', file], { cwd })
      expect(stdout).not.toContain('serving')
      return [code, stderr]
    }
    expect(await said('gateway.yaml')).toEqual([
      7,
      `manyhost: gateway: cannot listen on ${taken}: it is taken by another program\n`,
    ])
    expect(await said('admin.yaml')).toEqual([
      7,
      `manyhost: admin: cannot listen on ${taken}: it is taken by another program\n`,
    ])
    expect(await said('strange.yaml')).toEqual([
      7,
      'manyhost: gateway: cannot listen on 192.0.2.1:80: no such address on this machine\n',
    ])
    expect(await said('nowhere.yaml')).toEqual([
      3,
      'manyhost: nowhere.yaml: there is no such file\n',
    ])
    const [code, stderr] = await said('wrong.yaml')
    expect(stderr).toMatch(/wrong.yaml:1:11: services must be a mapping/)
    expect(code).toBe(3)
  })

  it('serves the example fleet', () => {
    // What `npm start` serves is a file that a test of its own runs; here: that the script names it.
    const { scripts } = JSON.parse(
      readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
    )
    expect(scripts.start).toContain('examples/fleet/fleet.yaml')
  })
})
