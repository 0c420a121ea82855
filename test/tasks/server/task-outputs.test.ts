/** What people get to see of what tasks wrote, and which files commands leave alone. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'libsql'
import { describe, expect, it, onTestFinished } from 'vitest'
import { createFolder, runManyhost, startProgram } from '../../cli/help.ts'

function home() {
  const at = createFolder()
  return { cwd: at, env: { XDG_DATA_HOME: at } }
}

const BATCH = ['tasks', 'cluster', '-N', '1']

describe('the output of tasks', () => {
  it('begins on a line of its own, also where the one before had no end; the last stays as it is', async () => {
    const options = home()
    const input = 'printf a\nprintf b\necho c\nprintf d >&2\nprintf e >&2\n'
    const { stdout, stderr } = await runManyhost(BATCH, { ...options, input })
    // A line without an end is given when its task is over.
    const lines = (text: string) => text.split('\n').filter(Boolean).toSorted()
    expect(lines(stdout)).toEqual(['a', 'b', 'c'])
    expect(lines(stderr)).toEqual(['d', 'e', expect.stringMatching(/^manyhost: 5 succeeded/)])
    const one = await runManyhost(BATCH, { ...options, input: 'printf "a\\nb"\n' })
    expect(one.stdout).toBe('a\nb')
    const args = [...BATCH, '-o', 'out.txt', '-e', 'err.txt']
    await runManyhost(args, { ...options, input })
    const file = (name: string) => lines(readFileSync(join(options.cwd, name), 'utf8'))
    expect([file('out.txt'), file('err.txt')]).toEqual([
      ['a', 'b', 'c'],
      ['d', 'e'],
    ])
  })

  it('that were captured and wrote nothing is empty; of others it is not there', async () => {
    const options = home()
    await runManyhost([...BATCH, '--capture'], { ...options, input: 'true\n' })
    await runManyhost(BATCH, { ...options, input: 'false\n' })
    const ids = (await runManyhost(['tasks', 'list', 'id'], options)).stdout.trim().split('\n')
    for (const flag of ['--stdout', '--stderr']) {
      const [kept, other] = await Promise.all(
        ids.map((id) => runManyhost(['tasks', 'info', id, flag], options)),
      )
      expect(kept).toMatchObject({ code: 0, stdout: '', stderr: '' })
      expect(other?.code).toBe(5)
      expect(other?.stderr).toMatch(/was not captured/)
    }
    const perf = await runManyhost(['tasks', 'info', ids[0] as string, '--perf'], options)
    expect(perf.code).toBe(5)
  })

  it('is empty over HTTP, too, where a captured task wrote nothing', async () => {
    const options = home()
    const server = startProgram(['tasks', 'server', '-p', '0', '--capture'], options)
    onTestFinished(() => void server.process.kill('SIGTERM'))
    const [, url = ''] = await server.waitForOutput(/submitted at (\S+)/, 'stderr')
    const at = ['--server', url]
    const id = (await runManyhost(['tasks', 'submit', ...at, '--', 'true'], options)).stdout.trim()
    await runManyhost(['tasks', 'wait', id], options)
    const got = await runManyhost(['tasks', 'info', id, '--stdout', ...at], options)
    expect(got).toMatchObject({ code: 0, stdout: '' })
  })
})

describe('the file of failures', () => {
  it('runs the same tasks again', async () => {
    const options = home()
    const input = 'test -e go # MANYHOST: cores:1 timeout:20 site:x\n  test  -e go  \n'
    const args = ['tasks', 'cluster', '-N', '2', '-f', 'failed.txt']
    const failed = await runManyhost(args, { ...options, input })
    expect(failed.code).toBe(1)
    expect(failed.stderr).toMatch(
      /2 failed; to run what is in that file again: manyhost tasks cluster failed\.txt\n/,
    )
    const lines = readFileSync(join(options.cwd, 'failed.txt'), 'utf8').split('\n').toSorted()
    expect(lines).toEqual([
      '',
      '  test  -e go  ',
      'test -e go # MANYHOST: group:0 cores:1 timeout:20 site:x',
    ])
    writeFileSync(join(options.cwd, 'go'), '')
    expect((await runManyhost(['tasks', 'cluster', 'failed.txt'], options)).code).toBe(0)
  })
})

describe('a database of another program', () => {
  const COMMANDS = [
    ['tasks', 'list'],
    ['tasks', 'list', '--count'],
    ['tasks', 'info', 'x'],
    ['tasks', 'wait', 'x'],
    ['tasks', 'update', '--cancel', '-f'],
    ['tasks', 'initdb'],
    ['tasks', 'submit', '--', 'true'],
    ['tasks', 'cluster'],
    ['tasks', 'server', '-p', '0'],
    ['run', '--', 'true'],
  ]

  it('is refused by every command, and left as it is', async () => {
    const { cwd, env } = home()
    const path = join(cwd, 'other.db')
    const other = new Database(path)
    other.exec('CREATE TABLE photos (id INTEGER PRIMARY KEY)')
    other.close()
    const before = readFileSync(path)
    for (const [first = '', ...rest] of COMMANDS) {
      const at = rest.indexOf('--')
      const args =
        at < 0
          ? [...rest, '--store', path]
          : [...rest.slice(0, at), '--store', path, ...rest.slice(at)]
      const { code, stderr } = await runManyhost([first, ...args], { cwd, env, input: 'true\n' })
      expect([first, ...args].join(' ') + stderr).toMatch(
        /is no store of manyhost: it has the tables of another program \('photos'\)/,
      )
      expect(code).toBe(3)
    }
    expect(readFileSync(path).equals(before)).toBe(true)
    expect(readdirSync(cwd).filter((name) => name.startsWith('other'))).toEqual(['other.db'])
  })

  it('is made by no command that only looks', async () => {
    const { cwd, env } = home()
    for (const args of COMMANDS.slice(0, 5)) {
      const { stderr } = await runManyhost([...args, '--store', join(cwd, 'none.db')], { cwd, env })
      expect(stderr).toMatch(/there is no store at/)
    }
    expect(existsSync(join(cwd, 'none.db'))).toBe(false)
  })
})
