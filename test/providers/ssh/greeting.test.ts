/** What a login shell prints or does before it runs our command. The server is ssh2's own, and its shells are real. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import ssh2 from 'ssh2'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import { ssh } from '../../../providers/ssh/index.ts'
import { runManyhost } from '../../cli/help.ts'
import { rejectionOf } from '../../help.ts'
import { specOf, waitUntil } from '../process-help.ts'

const scratch = mkdtempSync(join(tmpdir(), 'manyhost-greeting-'))
const keys = {
  host: ssh2.utils.generateKeyPairSync('ed25519'),
  user: ssh2.utils.generateKeyPairSync('ed25519'),
}
const key = join(scratch, 'key')
writeFileSync(key, keys.user.private, { mode: 0o600 })
const { signal } = new AbortController()
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

/** A host whose login shell runs this before the command that it is given. */
async function hostWith(login: string) {
  const children = new Set<ChildProcess>()
  let tries = 0
  const server = new ssh2.Server({ hostKeys: [keys.host.private] }, (client) => {
    client.on('error', () => {})
    client.on('authentication', (context) => context.accept())
    client.on('session', (accept) => {
      accept().on('exec', (take, _, { command }) => {
        tries++
        const channel = take()
        const child = spawn('/bin/sh', ['-c', `${login}\n${command}`], { detached: true })
        children.add(child)
        channel.on('error', () => {})
        channel.pipe(child.stdin).on('error', () => {})
        child.stdout.pipe(channel, { end: false })
        child.stderr.pipe(channel.stderr, { end: false })
        child.once('close', (code) => {
          channel.exit(code ?? 1)
          channel.end()
        })
      })
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const knownHosts = join(scratch, `known-${port}`)
  writeFileSync(knownHosts, `[127.0.0.1]:${port} ${keys.host.public}\n`)
  onTestFinished(() => {
    server.close()
    for (const { pid } of children) {
      try {
        process.kill(-(pid as number), 'SIGKILL')
      } catch {}
    }
  })
  const options = {
    hosts: [`127.0.0.1:${port}`],
    key,
    knownHosts: [knownHosts],
    agent: false,
  } as const
  return { options, port, knownHosts, tries: () => tries }
}

describe('a login shell that', () => {
  test.each([
    ['prints lines', 'echo "Welcome to the lab"; echo "@12345"; echo "!no"'],
    ['prints without a last line end', 'printf "Last login: today "'],
    ['prints to standard error, too', 'echo motd >&2; echo motd'],
    [
      'prints a lot',
      'i=0; while [ $i -lt 3000 ]; do echo "line $i of the message of the day"; i=$((i+1)); done',
    ],
  ])('%s: an instance starts, and its output is its own', async (_, login) => {
    const { options } = await hostWith(login)
    const provider = ssh(options)
    onTestFinished(() => provider.close?.())
    const spec = specOf({ command: ['sh', '-c', 'echo "of mine: $PORT"; exec sleep 1000'] })
    const running = await provider.start(spec, { signal })
    await waitUntil(() => /of mine: \d+/.test(spec.output))
    expect(spec.output.replace(/motd\n/g, '')).toMatch(/^of mine: \d+\n$/)
    await running.stop(0)
  })

  test('ends before it runs our command is reported with its output', async () => {
    const { options } = await hostWith('echo "This account is not available"; exit 1')
    const provider = ssh(options)
    onTestFinished(() => provider.close?.())
    const error = await rejectionOf(provider.start(specOf({ command: ['true'] }), { signal }))
    expect(error).toMatchObject({ code: 'MANYHOST_START_FAILED' })
    expect(error.message).toMatch(
      /no shell could be opened on .*: the shell ended, its output: 'This account is not available'/,
    )
  })

  test('waits for input is given up after connectTimeout', async () => {
    const { options } = await hostWith('echo "press a key"; exec sleep 1000')
    const provider = ssh({ ...options, connectTimeout: 500 })
    onTestFinished(() => provider.close?.())
    const error = await rejectionOf(provider.start(specOf({ command: ['true'] }), { signal }))
    expect(error.message).toMatch(/its login shell did not run our command within 500 ms/)
  })

  test('prints without end is given up', async () => {
    const { options } = await hostWith('exec yes')
    const provider = ssh(options)
    onTestFinished(() => provider.close?.())
    const error = await rejectionOf(provider.start(specOf({ command: ['true'] }), { signal }))
    expect(error.message).toMatch(
      /the shell printed more than 1048576 bytes before our command ran, its output: '[y ]+'/,
    )
  })
})

test('tasks on hosts that can never be used end after a number of tries, with the reason', async () => {
  const { port, knownHosts, tries } = await hostWith('echo no; exit 1')
  const ended = await runManyhost(
    [
      'tasks',
      'cluster',
      '--no-db',
      '--ssh',
      '127.0.0.1',
      '--ssh-args',
      `-i ${key} -p ${port} -o UserKnownHostsFile=${knownHosts}`,
    ],
    { env: { XDG_DATA_HOME: scratch, SSH_AUTH_SOCK: '' }, input: 'true\n' },
  )
  expect(ended.code).not.toBe(0)
  expect(ended.stderr).toMatch(
    /no shell could be opened on .*: the shell ended, its output: 'no'.*no host could be used in \d+ tries/,
  )
  expect(tries()).toBeLessThan(20)
}, 60_000)
