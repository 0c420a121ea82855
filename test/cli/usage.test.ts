/** The command line as such: help, version, what is wrong with it, completion. */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ALL_COMMANDS } from '../../src/cli/all-commands.ts'
import { createFolder, runManyhost } from './help.ts'

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))

describe('manyhost', () => {
  it('prints its help, with all commands and exit codes', async () => {
    const { code, stdout } = await runManyhost(['--help'])
    expect(code).toBe(0)
    for (const { name } of ALL_COMMANDS) expect(stdout).toContain(`  ${name.split(' ')[0]} `)
    expect(stdout).toMatch(/Exit codes:\n +0 +done/)
  })

  it('loads nothing but the parser for that', async () => {
    const coverage = createFolder()
    await runManyhost(['--help'], { env: { NODE_V8_COVERAGE: coverage } })
    const [file] = readdirSync(coverage)
    const { result } = JSON.parse(readFileSync(join(coverage, file as string), 'utf8'))
    const urls = (result as { url: string }[]).map(({ url }) => url)
    expect(urls.some((url) => url.includes('commander'))).toBe(true)
    expect(
      urls.filter((url) => /node_modules\/(undici|yaml|pino|prom-client)\//.test(url)),
    ).toEqual([])
  })

  it.each(ALL_COMMANDS.map((command) => [command.name, command] as const))(
    'prints the help of %s, with examples',
    async (name, { options = [], args = [], examples }) => {
      const { code, stdout } = await runManyhost([...name.split(' '), '--help'])
      expect(code).toBe(0)
      expect(stdout).toContain(`Usage: manyhost ${name}`)
      for (const { flags } of options) expect(stdout).toContain(flags)
      for (const { name: arg } of args) expect(stdout).toContain(arg)
      for (const [line] of examples) expect(stdout).toContain(`$ ${line}`)
    },
  )

  it('prints its version', async () => {
    expect(await runManyhost(['--version'])).toEqual({
      code: 0,
      stdout: `${version}\n`,
      stderr: '',
    })
  })

  it.each([
    ['no command', [], /Usage: manyhost/],
    [
      'an unknown command, and guesses',
      ['statsu'],
      /unknown command 'statsu'\n\(Did you mean status\?\)/,
    ],
    [
      'an unknown option, and guesses',
      ['serve', '--wach'],
      /unknown option '--wach'\n\(Did you mean --watch\?\)/,
    ],
    ['an argument that is missing', ['logs'], /missing required argument 'service'/],
    ['an argument too many', ['status', 'a', 'b'], /too many arguments/],
    ['a choice that is none', ['serve', '--log', 'xml'], /Allowed choices are pretty, json, quiet/],
    [
      'a size that is none',
      ['size', 'calc', 'many'],
      /expected a whole number from 0 up, got "many"/,
    ],
    ['a negative size', ['size', 'calc', '-1'], /expected a whole number/],
    ['lines that are no number', ['logs', 'calc', '-n', 'x'], /expected a whole number/],
    ['a method that is none', ['request', 'calc', '-X', 'a b'], /expected the name of a method/],
    ['a header that is none', ['request', 'calc', '-H', 'nothing'], /expected 'Name: value'/],
    ['a body that is not there', ['request', 'calc', '-d', '@/nowhere'], /cannot read \/nowhere/],
    ['a target without a service', ['request', '/'], /expected a service and a path/],
    ['an admin address that is none', ['status', '--admin', 'http://['], /expected a URL/],
    ['a token in a URL', ['status', '--admin', 'http://:s3cret@h'], /does not belong into a URL/],
    [
      'a token file that is not there',
      ['status', '--token-file', '/nowhere'],
      /cannot read \/nowhere/,
    ],
    ['a shell that is none', ['completion', 'tcsh'], /expected one of bash, zsh, fish/],
  ])('refuses %s', async (_what, args, message) => {
    const { code, stdout, stderr } = await runManyhost(args)
    expect(stderr).toMatch(message)
    expect(stderr).not.toContain('s3cret')
    expect(stderr).not.toMatch(/^ +at /m)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  })

  it('colours only where somebody sees it, or where it is asked for', async () => {
    const plain = await runManyhost(['status', '--admin', '127.0.0.1:1'])
    expect(plain.stderr).not.toContain('\u001b')
    const forced = await runManyhost(['status', '--admin', '127.0.0.1:1'], {
      env: { FORCE_COLOR: '1' },
    })
    expect(forced.stderr).toContain('\u001b[31m')
    const env = { FORCE_COLOR: '1', NO_COLOR: '1' }
    expect((await runManyhost(['status', '--admin', '127.0.0.1:1'], { env })).stderr).not.toContain(
      '\u001b',
    )
  })

  it('says when nothing is at the admin address', { timeout: 180_000 }, async () => {
    for (const args of [
      ['status'],
      ['top'],
      ['logs', 'calc'],
      ['size', 'calc', '1'],
      ['request', 'calc/'],
    ]) {
      const { code, stderr } = await runManyhost(args, {
        env: { MANYHOST_ADMIN: 'http://127.0.0.1:1' },
      })
      expect(stderr).toMatch(
        /^manyhost: cannot reach the admin address http:\/\/127.0.0.1:1: nothing listens there.*\n$/,
      )
      expect(code).toBe(4)
    }
    const socket = await runManyhost(['status', '--admin', 'unix:/nowhere/admin.sock'])
    expect(socket.stderr).toContain('there is no such socket')
    expect(socket.code).toBe(4)
  })
})

describe('manyhost completion', () => {
  it('completes commands, options and files in bash', async () => {
    const { stdout } = await runManyhost(['completion', 'bash'])
    const complete = (...words: string[]): string[] =>
      execFileSync('bash', [
        '-c',
        `${stdout}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _manyhost; printf '%s\\n' "\${COMPREPLY[@]}"`,
        'bash',
        ...words,
      ])
        .toString()
        .trim()
        .split('\n')
    expect(complete('manyhost', 'st')).toEqual(['status'])
    expect(complete('manyhost', 'serve', '--w')).toEqual(['--watch'])
    expect(complete('manyhost', 'serve', '--log', 'p')).toEqual(['pretty'])
    expect(complete('manyhost', 'check', '/etc/host')).toContain('/etc/hosts')
    expect(complete('manyhost', 'completion', 'z')).toEqual(['zsh'])
  })

  it.each(['zsh', 'fish'])('names all commands for %s', async (shell) => {
    const { code, stdout } = await runManyhost(['completion', shell])
    expect(code).toBe(0)
    for (const { name } of ALL_COMMANDS) expect(stdout).toContain(name.split(' ').at(-1))
  })
})
