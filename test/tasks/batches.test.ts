/** Batches of the command line and of programs: each runs its own tasks, as they were stored, and says what others have left. */
import { existsSync, mkdirSync, readFileSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { openStore } from '../../src/tasks/store/open.ts'
import type { Store } from '../../src/tasks/store/store.ts'
import { runCluster, serveForever, submitFrom, type TaskResult } from '../../src/tasks.ts'
import { createFolder, runManyhost, startProgram } from '../cli/help.ts'
import { waitUntil } from '../help.ts'
import { collect } from './collect.ts'
import { listed } from './store/store.suite.ts'

vi.setConfig({ testTimeout: 240_000 })

/** Folders of this test, with a store that all of them share. */
function projects(...names: string[]) {
  const at = realpathSync(createFolder())
  const folders = names.map((name) => {
    mkdirSync(join(at, name))
    return join(at, name)
  })
  return { folders, env: { XDG_DATA_HOME: at }, store: join(at, 'manyhost', 'tasks.db') }
}

/** Begins a batch, and ends it in its first task. */
async function interrupt(
  args: string[],
  options: { cwd: string; env: Record<string, string>; input: string },
  store: string,
  signal: NodeJS.Signals = 'SIGINT',
) {
  const child = startProgram(['tasks', 'cluster', '-S', '1', ...args], options)
  child.process.stdin?.end(options.input)
  await waitUntil(() => existsSync(store))
  const opened = await openStore(store)
  await waitUntil(async () => {
    const { scheduled, new: waiting } = await opened.counts()
    return scheduled > 0 && scheduled + waiting === options.input.trim().split('\n').length
  })
  child.process.kill(signal)
  const ended = await child.ended
  await opened.close()
  return ended
}

const env = { MANYHOST_EXPORT_COLOUR: 'red' }

describe('a batch of the command line', () => {
  it('is interrupted in one folder: one of another folder runs nothing of it, and says where it waits', async () => {
    const { folders, store, ...more } = projects('one', 'two')
    const [one, two] = folders as [string, string]
    const slow = { cwd: one, env: { ...more.env, ...env }, input: '101\n102\n103\n' }
    const template = 'test -e go || sleep 60; echo "{} $COLOUR $PWD"'
    const first = await interrupt(['-N', '1', '-r', '1', '-t', template], slow, store)
    expect(first.code).toBe(4)
    expect(first.stderr).toMatch(
      /3 tasks wait; to run them: manyhost tasks cluster --restart -r 1\n/,
    )
    const other = await runManyhost(['tasks', 'cluster', '-t', 'echo two {}'], {
      cwd: two,
      env: more.env,
      input: '7\n',
    })
    expect(other).toMatchObject({ code: 0, stdout: 'two 7\n' })
    expect(other.stderr).toContain(
      `3 tasks of an earlier batch in ${one} wait: --restart runs them, in that folder`,
    )
    // Not those of another folder.
    const elsewhere = await runManyhost(['tasks', 'cluster', '--restart'], {
      cwd: two,
      env: more.env,
    })
    expect(elsewhere).toMatchObject({ code: 0, stdout: '' })
    mkdirSync(join(one, 'go'))
    const here = await runManyhost(['tasks', 'cluster'], {
      cwd: one,
      env: more.env,
      input: 'true\n',
    })
    expect(here.stderr).toMatch(/3 tasks of an earlier batch in \S+one wait: --restart runs them\n/)
    // Template and variables are those that it was stored with.
    const again = await runManyhost(['tasks', 'cluster', '--restart', '-t', 'rm {}'], {
      cwd: one,
      env: more.env,
    })
    expect(again.stdout.split('\n').filter(Boolean).toSorted()).toEqual(
      ['101', '102', '103'].map((line) => `${line} red ${one}`),
    )
    expect(again.code).toBe(0)
  })

  it('whose program was killed is found again by --restart, as it was stored', async () => {
    const { folders, env, store } = projects('one')
    const [cwd] = folders as [string]
    const options = { cwd, env, input: 'a\nb\n' }
    await interrupt(
      ['-N', '1', '-t', 'test -e go || sleep 60; echo got {}'],
      options,
      store,
      'SIGKILL',
    )
    mkdirSync(join(cwd, 'go'))
    const again = await runManyhost(['tasks', 'cluster', '--restart'], { cwd, env })
    expect(again.stdout.split('\n').toSorted()).toEqual(['', 'got a', 'got b'])
  })

  it('says how its failures are seen and run again, and that works', async () => {
    const { folders, env } = projects('one')
    const [cwd] = folders as [string]
    const options = { cwd, env }
    const input = 'a\nb\n'
    const failed = await runManyhost(['tasks', 'cluster', '-t', 'test -e go && echo {}'], {
      ...options,
      input,
    })
    expect(failed.code).toBe(1)
    expect(failed.stderr).toMatch(
      /2 failed; to see them: manyhost tasks list id exit_status args -w /,
    )
    const batch = /-w 'batch == (\w+)'/.exec(failed.stderr)?.[1]
    const those = ['-w', `batch == ${batch}`, '-w', 'state == failed']
    const list = await runManyhost(['tasks', 'list', 'args', ...those], options)
    expect(list.stdout).toBe('a\nb\n')
    mkdirSync(join(cwd, 'go'))
    await runManyhost(['tasks', 'update', '--revert', ...those, '-f'], options)
    const again = await runManyhost(['tasks', 'cluster', '--restart'], options)
    expect(again.stdout.split('\n').toSorted()).toEqual(['', 'a', 'b'])
  })

  it('says up to which line its file was read, where it was not read to the end', async () => {
    const { folders, env } = projects('one')
    const [cwd] = folders as [string]
    const lines = Array.from({ length: 30_000 }, () => 'sleep 60').join('\n')
    const { writeFileSync } = await import('node:fs')
    writeFileSync(join(cwd, 'jobs.txt'), `${lines}\n`)
    const child = startProgram(['tasks', 'cluster', 'jobs.txt', '-S', '1'], { cwd, env })
    const store = join(env.XDG_DATA_HOME, 'manyhost', 'tasks.db')
    await waitUntil(() => existsSync(store))
    const opened = await openStore(store)
    await waitUntil(async () => (await opened.counts()).new >= 9_000)
    child.process.kill('SIGINT')
    const { stderr } = await child.ended
    const [, line, next] =
      /jobs\.txt was read up to line (\d+); to run the rest: tail -n \+(\d+) jobs\.txt \| manyhost tasks cluster\n/.exec(
        stderr,
      ) ?? []
    expect(Number(next)).toBe(Number(line) + 1)
    expect((await opened.counts()).total).toBe(Number(line))
    await opened.close()
  })

  it('ends with 1 where tasks of it were cancelled by somebody else, and counts them', async () => {
    const { folders, env, store } = projects('one')
    const [cwd] = folders as [string]
    const child = startProgram(['tasks', 'cluster', '-N', '1', '-S', '1'], { cwd, env })
    child.process.stdin?.end('sleep 60\nsleep 61\nsleep 62\n')
    await waitUntil(() => existsSync(store))
    const opened = await openStore(store)
    await waitUntil(
      async () => (await opened.counts()).total === 3 && (await opened.counts()).scheduled > 0,
    )
    await opened.close()
    await runManyhost(['tasks', 'update', '--cancel', '-f'], { cwd, env })
    const { code, stderr } = await child.ended
    expect(stderr).toMatch(/0 succeeded, 0 failed, 3 cancelled/)
    expect(code).toBe(1)
  })
})

describe('what was submitted', () => {
  it('is run by a server, in the folder and with the variables that it was submitted with', async () => {
    const { folders, store, env: at } = projects('here', 'there')
    const [here, there] = folders as [string, string]
    const task = 'echo "$PWD $COLOUR" >where.txt'
    await runManyhost(['tasks', 'submit', '--', task], { cwd: here, env: { ...at, ...env } })
    const batch = await runManyhost(['tasks', 'cluster'], { cwd: there, env: at, input: 'true\n' })
    expect(batch.stderr).toMatch(/1 submitted task waits: manyhost tasks server runs all of them/)
    const restart = await runManyhost(['tasks', 'cluster', '--restart'], { cwd: there, env: at })
    expect(restart.code).toBe(0)
    expect(existsSync(join(here, 'where.txt'))).toBe(false)
    const args = ['tasks', 'server', '-p', '0', '--restart', '-t', 'rm {}']
    expect((await runManyhost(args, { cwd: there, env: at })).code).toBe(0)
    expect(readFileSync(join(here, 'where.txt'), 'utf8')).toBe(`${here} red\n`)
    expect(existsSync(store)).toBe(true)
  })

  it('over HTTP runs in its folder as well, and so does `run` by a server', async () => {
    const { folders, env: at } = projects('here', 'there')
    const [here, there] = folders as [string, string]
    const server = startProgram(['tasks', 'server', '-p', '0'], { cwd: there, env: at })
    onTestFinished(() => void server.process.kill('SIGKILL'))
    const [, url = ''] = await server.waitForOutput(/submitted at (\S+)/, 'stderr')
    const options = { cwd: here, env: at }
    const by = ['--server', url]
    expect((await runManyhost(['run', ...by, '--', 'pwd'], options)).stdout).toBe(`${here}\n`)
    expect((await runManyhost(['run', '--', 'pwd'], options)).stdout).toBe(`${here}\n`)
  })

  it('is not waited for by `run` where only a batch of another folder is at work', async () => {
    const { folders, env: at } = projects('here', 'there')
    const [here, there] = folders as [string, string]
    const batch = startProgram(['tasks', 'cluster', '-S', '1'], { cwd: there, env: at })
    onTestFinished(() => void batch.process.kill('SIGTERM'))
    batch.process.stdin?.write('echo begun; sleep 60\n')
    await batch.waitForOutput(/begun/)
    expect((await runManyhost(['run', '--', 'pwd'], { cwd: here, env: at })).stdout).toBe(
      `${here}\n`,
    )
  })
})

async function opened(): Promise<Store> {
  const store = await openStore(join(createFolder(), 'tasks.db'))
  onTestFinished(() => store.close())
  return store
}

describe('a run of a program', () => {
  it('runs its own source and nothing else, beside others on the same store', async () => {
    const store = await opened()
    await store.add([{ args: 'echo old' }])
    const [a, b] = await Promise.all([
      collect(['1', '2'], { store, template: 'echo a {}' }),
      collect(['3', '4'], { store, template: 'echo b {}' }),
    ])
    expect(a.results.map(({ command }) => command).toSorted()).toEqual(['echo a 1', 'echo a 2'])
    expect(b.results.map(({ command }) => command).toSorted()).toEqual(['echo b 3', 'echo b 4'])
    expect((await store.counts()).new).toBe(1)
  })

  it('stores what will be run before it is run', async () => {
    const store = await opened()
    const run = runCluster(['sleep 60', 'a b'], {
      store,
      template: '{} # {[0]}',
      env: { X: '1' },
      shell: '/bin/bash',
      cwd: '/tmp',
      signalWait: 100,
    })
    await waitUntil(async () => (await store.counts()).total === 2)
    run.stop()
    await run
    const [, task] = await listed(store)
    expect(task).toMatchObject({
      args: 'a b',
      command: 'a b # a',
      template: '{} # {[0]}',
      cwd: '/tmp',
      env: { X: '1' },
      shell: '/bin/bash',
    })
    expect(run.remaining).toMatchObject({ waiting: 2, isSourceWhole: true, lines: 2 })
  })

  it('expands what only the runner knows by the stored template', async () => {
    const { text, results } = await collect(['x', 'y'], {
      numTasks: 1,
      template: 'echo {} {slot} {% echo @@ %}',
    })
    expect(text).toBe('stdout x 1 xx\nstdout y 1 yy\n')
    expect(results.map(({ command }) => command)).toEqual(['echo x 1 xx', 'echo y 1 yy'])
  })

  it('of an older store runs its lines by the template that is given with restart, and others by their own', async () => {
    const store = await opened()
    await store.add([{ args: '7' }, { args: '8', cwd: '/tmp', template: 'echo own {}' }])
    await store.add([{ args: 'echo plain', cwd: '/tmp' }])
    const options = { store, restart: true, template: 'echo old {}', cwd: '/tmp' }
    const { results } = await collect(undefined, options)
    expect(results.map(({ command }) => command).toSorted()).toEqual([
      'echo old 7',
      'echo own 8',
      'echo plain',
    ])
  })

  it('ends a task whose folder is gone, and runs it nowhere else', async () => {
    const store = await opened()
    await submitFrom(['echo ran'], { store, cwd: '/no/such/folder' })
    const { text, results } = await collect(undefined, { store })
    expect(results).toMatchObject([
      { exitStatus: 127, message: "cannot enter folder '/no/such/folder'" },
    ])
    expect(text).not.toMatch(/ran/)
  })

  it('that goes on for ever takes what is handed in, each with its own shell', async () => {
    const store = await opened()
    let text = ''
    const results: TaskResult[] = []
    const run = serveForever({
      store,
      template: 'rm {}',
      onOutput: (_task, _stream, chunk) => {
        text += chunk
      },
    })
    const reading = (async () => {
      for await (const one of run) results.push(one)
    })()
    await run.ready
    await submitFrom(['echo "$BASH_VERSION" | cut -c1'], { store, shell: '/bin/bash' })
    await waitUntil(() => results.length === 1)
    run.drain()
    await reading
    expect(text).toMatch(/^\d\n$/)
  })

  it('tells of tasks that were cancelled, waiting, running or between attempts, and counts them', async () => {
    const store = await opened()
    const run = runCluster(['sleep 60', 'waits', 'exit 3'], {
      store,
      numTasks: 2,
      maxRetries: 1,
      signalWait: 100,
      eager: false,
    })
    const results: TaskResult[] = []
    const reading = (async () => {
      for await (const one of run) {
        results.push(one)
        if (one.willRetry) await run.cancel({ where: [`id == ${one.id}`] })
      }
    })()
    await run.ready
    await waitUntil(async () => (await store.counts()).scheduled > 0)
    await run.cancel({ where: ['args == waits'] })
    await run.cancel({ where: ["args == 'sleep 60'"] })
    await reading
    const cancelled = results.filter(({ exitStatus }) => exitStatus === -1).map(({ args }) => args)
    expect(cancelled.toSorted().slice(-2)).toEqual(['sleep 60', 'waits'])
    const { counts } = run
    expect(counts.cancelled).toBe(cancelled.length)
    expect(counts.refused).toBe(0)
    expect(await store.counts()).toMatchObject({ cancelled: cancelled.length })
  })
})
