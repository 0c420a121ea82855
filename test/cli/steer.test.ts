/** The commands that talk to the admin address, against a fleet that is served. */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import {
  createFolder,
  fleetYaml,
  runManyhost,
  type ServingProgram,
  startProgram,
  startServe,
} from './help.ts'

const ECHO = `
  http://echo:
    command: [${process.execPath}, -e, "require('http').createServer((q,s)=>{s.setHeader('x-method',q.method);s.writeHead(q.url==='/teapot'?418:200);s.write(JSON.stringify([q.url,q.headers])+'\\\\n');q.pipe(s)}).listen(process.env.PORT,process.env.HOST)"]`

async function serving(
  options: Parameters<typeof fleetYaml>[0] = {},
): Promise<[ServingProgram, typeof runManyhost]> {
  const served = await startServe(fleetYaml(options))
  const env = { MANYHOST_ADMIN: served.admin }
  return [served, (args, more = {}) => runManyhost(args, { ...more, env: { ...env, ...more.env } })]
}

describe('commands of a served fleet', () => {
  it('status: a table, one service, names, JSON, nothing', async () => {
    const [, run] = await serving({ size: '2' })
    await run(['size', 'calc', '2'])
    const table = await run(['status'])
    expect(table.stdout).toMatch(/^SERVICE +READY +SIZE +BUSY +QUEUE/)
    expect(table.stdout).toMatch(/^calc +2 +2 +0\/8 +0/m)
    const one = await run(['status', 'calc'])
    expect(one.stdout).toMatch(/^http:\/\/calc: 2 of 2 ready/)
    expect(one.stdout.match(/^calc-\w+-\d+ +ready +0\/4/gm)).toHaveLength(2)
    expect((await run(['status', '--names'])).stdout).toBe('calc\n')
    const { clusters } = JSON.parse((await run(['status', '--json'])).stdout)
    expect(clusters).toMatchObject([{ name: 'calc', url: 'http://calc', size: 2 }])
    expect(JSON.parse((await run(['status', 'calc', '--json'])).stdout)).toMatchObject({ size: 2 })
    const missing = await run(['status', 'nope'])
    expect(missing).toMatchObject({ code: 5, stdout: '' })
    expect(missing.stderr).toContain('no service is named nope')
  })

  it('status --watch: again and again, until Ctrl-C', async () => {
    const [{ admin }] = await serving()
    const watch = startProgram(['status', '--watch', '--json', '--admin', admin])
    await watch.waitForOutput(/"clusters".*\n.*"clusters"/)
    watch.process.kill('SIGINT')
    const { code, stdout } = await watch.ended
    expect(code).toBe(130)
    for (const line of stdout.trim().split('\n'))
      expect(JSON.parse(line)).toHaveProperty('clusters')
  })

  it('size: sets it and waits; restart: replaces all, or one', async () => {
    const [, run] = await serving()
    expect((await run(['size', 'calc'])).stdout).toBe('1\n')
    const grown = await run(['size', 'calc', '3'])
    expect(grown).toEqual({ code: 0, stdout: 'http://calc: 1 -> 3\n', stderr: '' })
    const ids = async (): Promise<string[]> => {
      const { instances } = JSON.parse((await run(['status', 'calc', '--json'])).stdout)
      return instances
        .filter(({ state }: { state: string }) => state === 'ready')
        .map(({ id }: { id: string }) => id)
    }
    const before = await ids()
    expect(before).toHaveLength(3)
    const one = await run(['restart', 'calc', before[0] as string])
    expect(one).toEqual({ code: 0, stdout: 'http://calc: restarted 1 instance\n', stderr: '' })
    expect(await ids()).not.toContain(before[0])
    expect((await run(['restart', 'calc'])).stdout).toBe('http://calc: restarted 3 instances\n')
    expect((await ids()).filter((id) => before.includes(id))).toEqual([])
    const missing = await run(['restart', 'calc', 'nope'])
    expect(missing.stderr).toContain('no instance nope')
    expect(missing.code).toBe(5)
    expect((await run(['size', 'calc', '0', '--no-wait'])).stdout).toBe('http://calc: 3 -> 0\n')
  })

  it('logs: all of a service, of one instance, the last lines, and what follows', async () => {
    const [{ admin }, run] = await serving()
    const all = await run(['logs', 'calc'])
    expect(all.stdout).toMatch(/^calc-\w+-1 \| calculator on 127.0.0.1:\d+\n$/)
    const [id] = all.stdout.split(' ')
    const one = await run(['logs', '-n', '1', 'calc', id as string])
    expect(one.stdout).toMatch(/^calculator on 127.0.0.1:\d+\n$/)
    const followed = startProgram(['logs', '-f', 'calc', '--admin', admin])
    await followed.waitForOutput(/calculator on/)
    await run(['size', 'calc', '2'])
    await followed.waitForOutput(/calc-\w+-2 \| calculator on/)
    followed.process.kill('SIGINT')
    expect((await followed.ended).code).toBe(130)
    expect((await run(['logs', 'calc', 'nope'])).code).toBe(5)
  })

  it('request: any method, headers and bodies, and the statuses as exit codes', async () => {
    const [, run] = await serving({ services: ECHO })
    expect(await run(['request', 'calc/add/1/2'])).toEqual({ code: 0, stdout: '3', stderr: '' })
    const posted = await run([
      'request',
      'echo/x?y=1',
      '-d',
      'body',
      '-H',
      'Authorization: Bearer own',
      '-i',
    ])
    expect(posted.stdout).toMatch(
      /^HTTP\/1.1 200 OK\n[\s\S]*x-method: POST\n[\s\S]*\n\n\["\/x\?y=1"/,
    )
    expect(posted.stdout).toContain('"host":"echo"')
    expect(posted.stdout).toContain('"authorization":"Bearer own"')
    expect(posted.stdout).not.toContain('x-requested-with')
    expect(posted.stdout).toMatch(/\nbody$/)
    const file = join(createFolder({ body: 'z'.repeat(200_000) }), 'body')
    const put = await run(['request', 'http://echo/file', '-X', 'put', '-d', `@${file}`])
    expect(put.stdout.endsWith('z'.repeat(200_000))).toBe(true)
    const piped = await run(['request', '/echo', '-d', '@-'], { input: 'from a pipe' })
    expect(piped.stdout).toMatch(/from a pipe$/)
    const teapot = await run(['request', 'echo/teapot'])
    expect(teapot.code).toBe(1)
    expect(teapot.stdout).toContain('/teapot')
    const missing = await run(['request', 'nope/x'])
    expect(missing.stderr).toMatch(/no service is at nope\/x; known: calc, echo/)
    expect(missing.code).toBe(5)
  })

  it('top: a line a service and second, when piped, until it is told to end', async () => {
    const [{ admin }] = await serving()
    const top = startProgram(['top', '--admin', admin])
    const [line] = await top.waitForOutput(/^\S+ calc ready=.*$/m)
    expect(line).toMatch(/ready=1 size=1 busy=0 queue=0 rate=0 failing=0/)
    top.process.kill('SIGTERM')
    const { code, stdout } = await top.ended
    expect(code).toBe(143)
    expect(stdout).not.toContain('\u001b')
  })

  it('asks for the token, takes it from the environment or a file, and shows it to nobody', async () => {
    const token = 'not-to-be-seen'
    // biome-ignore lint/suspicious/noTemplateCurlyInString: that is how files name it
    const file = fleetYaml({ admin: ', token: "${MANYHOST_TOKEN}"', services: ECHO })
    const served = await startServe(file, [], { MANYHOST_TOKEN: token })
    const env = { MANYHOST_ADMIN: served.admin }
    const without = await runManyhost(['status'], { env })
    expect(without.stderr).toContain('set MANYHOST_TOKEN or give --token-file')
    expect(without.code).toBe(6)
    expect((await runManyhost(['status'], { env: { ...env, MANYHOST_TOKEN: 'wrong' } })).code).toBe(
      6,
    )
    const right = { ...env, MANYHOST_TOKEN: token }
    expect((await runManyhost(['status'], { env: right })).code).toBe(0)
    const path = join(createFolder({ token: `${token}\n` }), 'token')
    expect((await runManyhost(['size', 'calc', '1', '--token-file', path], { env })).code).toBe(0)
    const echoed = await runManyhost(['request', 'echo/'], { env: right })
    expect(echoed.code).toBe(0)
    expect(echoed.stdout).not.toContain(token)
    expect((await runManyhost(['request', 'echo/'], { env })).code).toBe(6)
    expect(served.stdout()).not.toContain(token)
  })
})
