/** `manyhost config`, and commands of tasks that go by what it keeps. */
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createFolder, type ProgramResult, runManyhost } from './help.ts'

/** A folder for files of one's own, and one to work in. */
function place(own?: string, local?: string) {
  const at = createFolder()
  const paths = {
    user: join(at, 'config/manyhost/tasks.yaml'),
    local: join(at, 'work/.manyhost/tasks.yaml'),
  }
  for (const [path, text] of [
    [paths.user, own],
    [paths.local, local],
  ] as const) {
    mkdirSync(dirname(path), { recursive: true })
    if (text !== undefined) writeFileSync(path, text)
  }
  const cwd = join(at, 'work')
  const base = { XDG_CONFIG_HOME: join(at, 'config'), XDG_DATA_HOME: at, MANYHOST_STORE: '' }
  const run = (args: readonly string[], env = {}, input = ''): Promise<ProgramResult> =>
    runManyhost(args, { cwd, input, env: { ...base, ...env } })
  return { at, paths, run }
}

/** Most start the program a dozen times, which takes seconds each on a busy machine. */
const PATIENT = { timeout: 180_000 }

describe('manyhost config', PATIENT, () => {
  it('sets keys, keeps the comments, and says what is set and by whom', async () => {
    const { paths, run } = place('# mine\ncluster:\n  eager: true # the failed ones first\n')
    expect(await run(['config', 'set', 'cluster.maxRetries', '2'])).toMatchObject({
      code: 0,
      stdout: `cluster.maxRetries is set in ${paths.user}\n`,
    })
    expect(readFileSync(paths.user, 'utf8')).toBe(
      '# mine\ncluster:\n  eager: true # the failed ones first\n  maxRetries: 2\n',
    )
    await run(['config', 'set', '--local', 'cluster.ssh', 'a[01-03]', 'b'])
    expect(statSync(paths.local).mode & 0o777).toBe(0o600)
    const env = { MANYHOST_TASKS_MAX_RETRIES: '7' }
    expect((await run(['config', 'get'], env)).stdout).toBe(
      'tasks:\n  maxRetries: 7\ncluster:\n  maxRetries: 2\n  eager: true\n  ssh:\n    - a[01-03]\n    - b\n',
    )
    expect((await run(['config', 'get', 'cluster.maxRetries', '--user'], env)).stdout).toBe('2\n')
    expect((await run(['config', 'get', '--local', 'cluster.eager'])).code).toBe(5)
    expect((await run(['config', 'which', 'cluster.eager'])).stdout).toBe(
      `cluster.eager of ${paths.user}\n`,
    )
    expect((await run(['config', 'which', 'cluster.maxRetries'], env)).stdout).toBe(
      'MANYHOST_TASKS_MAX_RETRIES of the environment\n',
    )
    expect((await run(['config', 'which', 'cluster.poll'])).code).toBe(5)
  })

  it('shows no secret unless it is asked to, and takes none from the command line', async () => {
    const { paths, run } = place('tasks: { store: "postgres://me:s3cret@db/jobs" }\n')
    expect((await run(['config', 'get', 'tasks.store'])).stdout).not.toContain('s3cret')
    expect((await run(['config', 'get', 'tasks.store', '-x'])).stdout).toContain('s3cret')
    const refused = await run(['config', 'set', 'tasks.store', 'postgres://me:other@db/jobs'])
    expect(refused).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/every user of this machine can read/),
    })
    // biome-ignore lint/suspicious/noTemplateCurlyInString: that is how it is written
    const url = 'postgres://me:${MY_PASSWORD}@db/jobs'
    expect((await run(['config', 'set', 'tasks.store', url])).code).toBe(3)
    const env = { MY_PASSWORD: 's3cret' }
    expect((await run(['config', 'set', 'tasks.store', url], env)).code).toBe(0)
    expect((await run(['config', 'get', 'tasks.store'], env)).stdout).toBe(`${url}\n`)
    expect(readFileSync(paths.user, 'utf8')).not.toContain('s3cret')
  })

  it('refuses what is wrong, and changes nothing then', async () => {
    const { paths, run } = place('cluster: &all { eager: true }\nserver: *all\n')
    const before = readFileSync(paths.user, 'utf8')
    for (const [args, code, message] of [
      [['set', 'cluster.maxRetrie', '1'], 2, /no key of cluster.*did you mean 'maxRetries'/],
      [['set', 'clutser.maxRetries', '1'], 2, /no section.*did you mean 'cluster'/],
      [['set', 'cluster', '1'], 2, /no key of cluster/],
      [['set', 'cluster.maxRetries', 'x'], 2, /expected a whole number from 0 up/],
      [['set', 'cluster.maxRetries', '1', '2'], 2, /takes one value, got 2/],
      [['set', 'cluster.maxRetries', '1', '--local', '--user'], 2, /give one of --system/],
      [['set', 'server.maxRetries', '1'], 3, /server\.maxRetries cannot be set there/],
      [['get', 'nothing.of.it'], 2, /no section is called 'nothing'/],
      [['which', 'list.delete'], 2, /no key of list/],
    ] as const) {
      const ended = await run(['config', ...args])
      expect(ended.stderr, args.join(' ')).toMatch(message)
      expect(ended.code, args.join(' ')).toBe(code)
    }
    expect(readFileSync(paths.user, 'utf8')).toBe(before)
    expect(existsSync(paths.local)).toBe(false)
  })

  it('edits a file that begins with every key, and says what is wrong in it then', async () => {
    const { at, paths, run } = place()
    const script = join(at, 'editor.mjs')
    writeFileSync(
      script,
      `import { appendFileSync } from 'node:fs'\nappendFileSync(process.argv[2], process.env.TYPED)\n`,
    )
    const edit = (
      typed: string,
      editor = `${process.execPath} ${script}`,
    ): Promise<ProgramResult> =>
      run(['config', 'edit'], { VISUAL: '', EDITOR: editor, TYPED: typed })
    expect((await edit('list: { format: json }\n')).code).toBe(0)
    expect(readFileSync(paths.user, 'utf8')).toMatch(
      /^#\s+maxRetries: <number>\s+# further attempts/m,
    )
    expect((await run(['config', 'get'])).stdout).toBe('list:\n  format: json\n')
    const wrong = await edit('nothing: 1\n')
    expect(wrong).toMatchObject({ code: 3, stderr: expect.stringMatching(/no key 'nothing'/) })
    expect(await edit('', 'false')).toMatchObject({
      code: 1,
      stderr: 'manyhost: false: ended with 1\n',
    })
    expect((await edit('', '/nowhere/ed')).code).toBe(1)
  })
})

describe('commands of tasks', PATIENT, () => {
  it('go by the files, then the environment, then the command line', async () => {
    const { at, run } = place(
      'tasks: { store: nowhere.db }\nlist: { format: json }\n',
      `tasks: { store: ../jobs.db }\ncluster: { maxRetries: 1, template: "exit {}" }\n`,
    )
    const attempts = async (args: readonly string[], env = {}): Promise<string> => {
      expect((await run(['tasks', 'cluster', ...args], env, '3\n')).code).toBe(1)
      return (await run(['tasks', 'list', 'attempt', '--csv', '--desc', '-l', '1'])).stdout
    }
    expect(await attempts([])).toBe('attempt\n2\n')
    expect(existsSync(join(at, 'jobs.db'))).toBe(true)
    expect(await attempts([], { MANYHOST_CLUSTER_MAX_RETRIES: '2' })).toBe('attempt\n3\n')
    expect(await attempts(['-r', '0'], { MANYHOST_CLUSTER_MAX_RETRIES: '2' })).toBe('attempt\n1\n')
    expect(JSON.parse((await run(['tasks', 'list', 'args', '-l', '1'])).stdout)).toEqual([
      { args: '3' },
    ])
    const elsewhere = join(at, 'other.db')
    expect((await run(['tasks', 'initdb'], { MANYHOST_STORE: elsewhere })).stdout).toBe(
      `${elsewhere}\n`,
    )
  })

  it('take the store that the command line names, whatever server is set elsewhere', async () => {
    const { at, run } = place('tasks: { server: http://127.0.0.1:1 }\n')
    const store = ['--store', join(at, 'mine.db')]
    expect((await run(['tasks', 'submit', ...store, '--', 'true'])).code).toBe(0)
    expect((await run(['tasks', 'submit', '--', 'true'])).code).toBe(5)
    const env = { MANYHOST_TASKS_SERVER: 'http://127.0.0.1:1', MANYHOST_TASKS_MAX_RETRIES: 'x' }
    const wrong = await run(['tasks', 'submit', ...store, '--', 'true'], env)
    expect(wrong).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/^manyhost: MANYHOST_TASKS_MAX_RETRIES: expected a whole/),
    })
    expect((await run(['tasks', 'list', '--count', ...store])).stdout).toBe('1\n')
  })

  it('run nothing while a file is wrong, or others could have written it', async () => {
    const { paths, run } = place('', 'cluster: { maxRetris: 1 }\n')
    const wrong = await run(['tasks', 'cluster', '--no-db'], {}, 'echo ran\n')
    expect(wrong).toMatchObject({ code: 3, stdout: '' })
    expect(wrong.stderr).toMatch(/tasks\.yaml:1:12: cluster has no key 'maxRetris'/)
    writeFileSync(paths.local, 'cluster: { maxRetries: 1 }\n')
    expect((await run(['tasks', 'cluster', '--no-db'], {}, 'echo ran\n')).stdout).toBe('ran\n')
    const ways = [() => chmodSync(paths.local, 0o666)]
    if (process.getuid?.() === 0) {
      ways.push(() => {
        chmodSync(paths.local, 0o600)
        chownSync(paths.local, 65_534, 65_534)
      })
    }
    for (const give of ways) {
      give()
      const refused = await run(['tasks', 'cluster', '--no-db'], {}, 'echo ran\n')
      expect(refused).toMatchObject({ code: 3, stdout: '' })
      expect(refused.stderr).toMatch(/every user can write it|belongs to another user/)
    }
  })
})
