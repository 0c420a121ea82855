/** What HyperShell's users type means here what it means there, or is refused with what to write instead. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { ALL_COMMANDS } from '../../src/cli/all-commands.ts'
import { createProgram } from '../../src/cli/program.ts'
import { runManyhost } from '../cli/help.ts'
import { CASES, type Case, FILES, SPELLINGS } from './hypershell-lines.ts'

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), 'manyhost-hypershell-'))
  mkdirSync(join(made, 'work'))
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(made, 'work', name), text)
  return made
}

/** In this process: two hundred programs one after the other would take minutes. */
async function called(words: readonly string[], home: string): Promise<string> {
  let printed = ''
  const before = process.cwd()
  const writing = vi.spyOn(process.stdout, 'write').mockImplementation((text, ...rest) => {
    printed += text
    const callback = rest.at(-1)
    if (typeof callback === 'function') callback()
    return true
  })
  const warning = vi.spyOn(process.stderr, 'write').mockImplementation((_, ...rest) => {
    const callback = rest.at(-1)
    if (typeof callback === 'function') callback()
    return true
  })
  vi.stubEnv('XDG_DATA_HOME', home)
  vi.stubEnv('XDG_CONFIG_HOME', '/nowhere')
  process.chdir(join(home, 'work'))
  let code: number | undefined
  try {
    const cli = createProgram((number) => {
      code = number
    })
    await cli.parseAsync(['node', 'manyhost', ...words])
  } finally {
    process.chdir(before)
    vi.unstubAllEnvs()
    writing.mockRestore()
    warning.mockRestore()
  }
  expect(code, words.join(' ')).toBe(0)
  return printed
}

/** Where the tasks are, for cases that change none of them. */
let read: string | undefined

async function printed({ commands, isEmpty }: Case): Promise<string[]> {
  const isReading = !isEmpty && commands.every(([command]) => command === 'list')
  const home = (isReading && read) || folder()
  let stdout = ''
  if (!isEmpty && home !== read) await called(['tasks', 'submit', '-f', 'tasks.txt'], home)
  if (isReading) read = home
  for (const words of commands) stdout = await called(['tasks', ...words], home)
  return stdout.split('\n').filter((line) => line !== '')
}

describe('command lines of HyperShell', () => {
  it('are as many as were promised', () => {
    expect(CASES.length).toBeGreaterThanOrEqual(60)
  })

  it.each(
    CASES.map((one) => [one.commands.map((words) => words.join(' ')).join('; '), one] as const),
  )('%s', async (_, one) => {
    expect((await printed(one)).toSorted()).toEqual(one.prints.toSorted())
  })
})

/** By each spelling: the option that takes it, or why it is refused. */
function spellingsOf(command: string): Map<string, string | true> {
  const name = command === 'run' ? 'run' : `tasks ${command}`
  const entry = ALL_COMMANDS.find((one) => one.name === name)
  const found = new Map<string, string | true>()
  const words = (flags: string): string[] => flags.match(/(?<![\w-])--?[A-Za-z][\w-]*/g) ?? []
  for (const { flags, aliases: also = [] } of entry?.options ?? []) {
    for (const word of [...words(flags), ...also]) found.set(word, true)
  }
  for (const { flags, advice: instead } of entry?.replacedOptions ?? []) {
    for (const word of words(flags)) found.set(word, instead ?? true)
  }
  return found
}

describe('option spellings of HyperShell', () => {
  it.each(Object.entries(SPELLINGS))(
    'of %s are all taken, or refused with a replacement',
    (command, all) => {
      const known = spellingsOf(command)
      const unknown = all.split(' ').filter((word) => !known.has(word))
      expect(unknown).toEqual([])
      for (const said of known.values())
        if (said !== true) expect(said).toMatch(/\B-|manyhost|[A-Z]_/)
    },
  )

  it.each([
    ['tasks cluster --no-tls', /--no-tls: .*--insecure/],
    ['tasks cluster -H 0.0.0.0', /-H, --host: give --bind/],
    ['tasks server --bind 0.0.0.0', /-H ADDRESS -p PORT/],
    ['tasks server -k key', /MANYHOST_TASKS_TOKEN/],
    ['tasks server --available-ports', /-p 0/],
    ['tasks submit -q -- x', /--server http/],
    ['tasks submit --auth key -- x', /--token-file/],
    ['tasks client -N 2', /manyhost agent/],
    ['tasks search args', /manyhost tasks list/],
  ])('%s names what is used instead, and does nothing', async (line, said) => {
    const home = folder()
    const ended = await runManyhost(line.split(' '), { env: { XDG_DATA_HOME: home } })
    expect(ended.stderr).toMatch(said)
    expect(ended.code).toBe(2)
  })
})

describe('words behind -t and -w', () => {
  it.each([
    ['tasks submit -t a:1 echo hi', /-t a:1 -- COMMAND/],
    ['tasks list -t site:x args', /args is a field/],
    ['tasks list -w args==a group', /group is a field/],
    ['tasks update -f -t site:x group=2', /group=2 follows/],
    ['tasks update -f -w args==a group=2', /group=2 follows/],
    ['tasks cluster --tag a:1 tasks.txt', /tasks.txt is a file/],
    ['run -t a:1 true', /write -- before/],
  ])('%s: what was meant otherwise is refused, never taken in silence', async (line, said) => {
    const home = folder()
    const options = { cwd: join(home, 'work'), env: { XDG_DATA_HOME: home } }
    if (/list|update/.test(line)) await called(['tasks', 'submit', '--', 'x'], home)
    const ended = await runManyhost(line.split(' '), options)
    expect(ended.stderr).toMatch(said)
    expect(ended.code).toBe(2)
  })

  it('several tags of a cluster are put on each task', async () => {
    const home = folder()
    const options = { cwd: join(home, 'work'), env: { XDG_DATA_HOME: home } }
    await runManyhost(
      ['tasks', 'cluster', 'number.txt', '--tag', 'a:1', 'b:2', '-t', 'true {}'],
      options,
    )
    const { stdout } = await runManyhost(
      ['tasks', 'list', 'args', '-t', 'a:1', 'b:2', '-S'],
      options,
    )
    expect(stdout).toBe('7\n')
  })
})

describe('changes are read as options are', () => {
  it.each([
    ['timeout=30', 'timeout', '30'],
    ['timeout=1:30', 'timeout', '90'],
    ['timeout=250ms', 'timeout', '0.25'],
    ['memory=2GB', 'memory', '2000000000'],
    ['memory=2GiB', 'memory', '2147483648'],
    ['memory=1.5G', 'memory', '1610612736'],
  ])('%s', async (change, field, text) => {
    const one = {
      commands: [
        ['update', change, '-g', '1', '-f'],
        ['list', field, '-g', '1'],
      ],
      prints: [],
    }
    expect(await printed(one)).toEqual([text])
  })
})
