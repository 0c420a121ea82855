/** What can be decided without a machine: options, known hosts, the spread of load, quoting. */
import { createHmac } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { slurm } from '../../providers/slurm/index.ts'
import { SlurmJobComment } from '../../providers/slurm/job-comment.ts'
import { rankHosts } from '../../providers/ssh/host-ranking.ts'
import { ssh } from '../../providers/ssh/index.ts'
import { KnownHosts } from '../../providers/ssh/known-hosts.ts'
import { parseSshOptions, type SshTarget } from '../../providers/ssh/options.ts'
import { processIdentity } from '../../src/posix/identity.ts'
import { quoteShellWord } from '../../src/posix/shell-words.ts'
import { catchThrown } from '../help.ts'
import { specOf } from './process-help.ts'

describe('options of slurm', () => {
  test.each<[object, string]>([
    [{ partiton: 'x' }, "slurm: unknown option 'partiton'"],
    [
      { extra: ['--gres=gpu:1', '--job-name=x'] },
      "extra must be a list of texts like '--gres=gpu:1'",
    ],
    [{ extra: ['--dep=afterok:1'] }, 'extra must be'],
    [{ extra: ['-J', 'x'] }, 'extra must be'],
    [{ extra: ['--gres=gpu:1'], rest: 'unix:/x' }, 'extra cannot be used with rest'],
    [{ timeLimit: 1, drainBefore: 60 }, 'drainBefore must be less than timeLimit'],
    [{ timeLimit: 1.5 }, 'timeLimit must be a whole number of minutes from 1 up, got 1.5'],
    [{ callback: { host: '$(id)' } }, 'callback must be { host, port, listen }'],
    [{ callback: { host: 'a', prot: 1 } }, 'callback must be'],
    [{ rest: 'ftp://x' }, "rest must be like 'unix:/path'"],
    [{ account: 'a\nb' }, 'account must be a name'],
    [{ pollInterval: 1 }, 'pollInterval must be milliseconds from 100 up, got 1'],
  ])('%j is refused', (options, text) => {
    const error = catchThrown(() => slurm(options))
    expect(error).toMatchObject({ code: 'MANYHOST_INVALID_OPTION' })
    expect(error.message).toContain(text)
  })
})

describe('options of ssh', () => {
  test.each<[object, string]>([
    [{}, 'ssh: hosts is missing'],
    [{ hosts: [] }, 'hosts must be a list of one or more hosts, got []'],
    [{ hosts: ['a b'] }, 'hosts[0] must be like \'user@host:port\', got "a b"'],
    [{ hosts: ['a', 'a:22'] }, 'hosts names'],
    [{ hosts: [{ host: 'a', pin: 'x' }] }, "hosts[0]: unknown option 'pin'"],
    [{ hosts: [{ host: 'a', fingerprint: 'MD5:x' }] }, "fingerprint must be like 'SHA256:...'"],
    [{ hosts: [{ host: 'a', cpus: 0 }] }, 'cpus must be a number above 0'],
    [{ hosts: ['a'], password: 'x' }, "ssh: unknown option 'password'"],
  ])('%j is refused', (options, text) => {
    const error = catchThrown(() => ssh(options as Parameters<typeof ssh>[0]))
    expect(error).toMatchObject({ code: 'MANYHOST_INVALID_OPTION' })
    expect(error.message).toContain(text)
  })

  test('a host is read from a text', () => {
    const { hosts } = parseSshOptions({ hosts: ['me@a.example:2222', '[::1]:22'], user: 'you' })
    expect(hosts).toMatchObject([
      { host: 'a.example', port: 2222, user: 'me', cpus: 1 },
      { host: '::1', port: 22, user: 'you' },
    ])
  })
})

describe('known hosts', () => {
  const key = Buffer.from('a key')
  const line = (names: string, marker = '') =>
    `${marker}${names} ssh-ed25519 ${key.toString('base64')} comment\n`
  const salt = Buffer.from('salt')
  const hashed = `|1|${salt.toString('base64')}|${createHmac('sha1', salt).update('a.example').digest('base64')}`

  test.each([
    ['a.example', 22, 'known'],
    ['a.example,b.example', 22, 'known'],
    ['*.example', 22, 'known'],
    ['*.example,!a.example', 22, 'unknown'],
    ['?.example', 22, 'known'],
    ['b.example', 22, 'unknown'],
    ['a.example', 23, 'unknown'],
    ['[a.example]:23', 23, 'known'],
    [hashed, 22, 'known'],
  ])('%s, port %i: %s', (names, port, verdict) => {
    expect(new KnownHosts([line(names)]).checkKey('a.example', port, key)).toBe(verdict)
  })

  test('another key is wrong, a revoked one as well', () => {
    const known = new KnownHosts([`# none\n\n${line('a.example')}`])
    expect(known.checkKey('A.Example', 22, key)).toBe('known')
    expect(known.checkKey('a.example', 22, Buffer.from('other'))).toBe('wrong')
    expect(known.keyTypes('a.example', 22)).toEqual(['ssh-ed25519'])
    const revoked = new KnownHosts([line('a.example'), line('*', '@revoked ')])
    expect(revoked.checkKey('a.example', 22, key)).toBe('wrong')
  })
})

test('load is spread in proportion to what hosts have', () => {
  const host = (name: string, used: number, part: Partial<SshTarget> = {}, pausedUntil = 0) => ({
    target: { host: name, port: 22, user: 'me', cpus: 1, limit: 9, ...part },
    numInstances: used,
    cpus: used,
    memory: 0,
    pausedUntil,
  })
  const names = (...loads: ReturnType<typeof host>[]) =>
    rankHosts(loads, { cpus: 1, memory: 10 }, 100).map(({ target }) => target.host)
  expect(names(host('a', 2, { cpus: 2 }), host('b', 2, { cpus: 8 }))).toEqual(['b', 'a'])
  expect(names(host('a', 0, {}, 200), host('b', 5))).toEqual(['b', 'a'])
  expect(names(host('a', 2, { limit: 2 }), host('b', 5))).toEqual(['b'])
  expect(names(host('a', 0, { memory: 5 }), host('b', 5))).toEqual(['b'])
})

test('words go through a shell as they are', () => {
  expect(quoteShellWord('plain-word.js')).toBe('plain-word.js')
  expect(quoteShellWord("it's $HOME\n")).toBe(`'it'\\''s $HOME\n'`)
  expect(quoteShellWord('')).toBe("''")
})

test('only jobs of sessions of this machine that are no more are orphans', () => {
  const [machine, pid, begun] = processIdentity().split(':')
  const mine = new SlurmJobComment('m')
  const of = (owner: string): string => new SlurmJobComment('o', owner).format(specOf())
  expect(mine.isOrphan(of(processIdentity()))).toBe(false)
  expect(mine.isOrphan(of(`${machine}:4194999:1`))).toBe(true)
  // Another process by that number.
  expect(mine.isOrphan(of(`${machine}:${pid}:${Number(begun) - 1}`))).toBe(true)
  expect(mine.isOrphan(new SlurmJobComment('m', `${machine}:4194999:1`).format(specOf()))).toBe(
    false,
  )
  expect(mine.isOrphan(of('0123456789abcdef:4194999:1'))).toBe(false)
  for (const text of ['', 'hello', '{}', 'null', '{"manyhost":{}}']) {
    expect(mine.isOrphan(text)).toBe(false)
  }
})
