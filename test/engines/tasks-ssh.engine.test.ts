/** `manyhost tasks` with runners by way of a real sshd. */
import { writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createFolder, runManyhost, startProgram } from '../cli/help.ts'
import { withEngine } from './engine.ts'
import { openSshd, type Sshd } from './sshd.ts'

withEngine('/usr/sbin/sshd', 'sshd', () => {
  let sshd: Sshd

  beforeAll(async () => {
    sshd = await openSshd()
  })
  afterAll(() => sshd?.close())

  function home() {
    const at = createFolder()
    return { at, env: { XDG_DATA_HOME: at, MANYHOST_STORE: '', SSH_AUTH_SOCK: '' } }
  }
  const args = (knownHosts = sshd.knownHosts): string =>
    `-i ${sshd.key} -p ${sshd.port} -o UserKnownHostsFile=${knownHosts}`
  /** Only what sshd started has this variable. */
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the shell's
  const input = 'echo "{} ${SSH_CONNECTION%% *} $X"\n'

  test('--ssh runs tasks on the machine that is named, by its name in short', async () => {
    const { env } = home()
    const ended = await runManyhost(
      ['tasks', 'cluster', '--ssh', '127.0.0.[1-1]', '--ssh-args', args(), '-E'],
      { env: { ...env, MANYHOST_EXPORT_X: 'handed on' }, input },
    )
    expect(ended).toMatchObject({ code: 0, stdout: '{} 127.0.0.1 handed on\n' })
    const hosts = await runManyhost(['tasks', 'list', 'client_id'], { env })
    expect(hosts.stdout).toMatch(/^tasks-\S+\n$/)
  })

  test('--remote-exe is what runs there', async () => {
    const { at, env } = home()
    const program = join(at, 'runner.mjs')
    const real = resolve('dist/src/tasks/runner/main.js')
    writeFileSync(program, `process.env.X = 'other'; await import(${JSON.stringify(real)})`)
    const bin = join(process.execPath, '..')
    const ended = await runManyhost(
      ['tasks', 'cluster', '--ssh', '127.0.0.1', '--ssh-args', args(), '--remote-exe', program],
      // Where node is, the far shell has to know by itself.
      { env: { ...env, PATH: `${bin}:${process.env.PATH}` }, input },
    )
    expect(ended).toMatchObject({ code: 0, stdout: '{} 127.0.0.1 other\n' })
  })

  test('--ssh-group runs tasks on the hosts of a provider of the file', async () => {
    const { at, env } = home()
    const fleet = join(at, 'fleet.yaml')
    const { port, key, knownHosts } = sshd
    const lab = { type: 'ssh', hosts: [`127.0.0.1:${port}`], key, knownHosts: [knownHosts] }
    writeFileSync(fleet, `providers: { lab: ${JSON.stringify(lab)} }\nservices: {}\n`)
    const ended = await runManyhost(
      ['tasks', 'cluster', '--no-db', '--fleet', fleet, '--ssh-group', 'lab'],
      { env, input },
    )
    expect(ended).toMatchObject({ code: 0, stdout: '{} 127.0.0.1 \n' })
  })

  test('a host whose key is not known is said, and its tasks stay in the store', async () => {
    const { at, env } = home()
    const cluster = startProgram(
      ['tasks', 'cluster', '--ssh', '127.0.0.1', '--ssh-args', args(join(at, 'none')), '-'],
      { env },
    )
    cluster.process.stdin?.end(input)
    await cluster.waitForOutput(/its key SHA256:\S+ is in none of/, 'stderr')
    cluster.process.kill('SIGINT')
    expect((await cluster.ended).code).toBe(4)
    const left = await runManyhost(['tasks', 'list', '--remaining', '-c'], { env })
    expect(left.stdout).toBe('1\n')
  })
})
