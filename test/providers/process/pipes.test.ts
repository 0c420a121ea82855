/** What instances write goes through pipes, which a program can open by name. */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { describe, expect, onTestFinished, test } from 'vitest'
import { processes } from '../../../providers/process/index.ts'
import { specOf, waitUntil } from '../process-help.ts'

const signal = new AbortController().signal

function provider() {
  const made = processes()
  onTestFinished(() => made.close?.())
  return made
}

describe.runIf(existsSync('/proc/self/fd'))('an output', () => {
  test.each(['/dev/stdout', '/dev/stderr', '/proc/self/fd/1', '/dev/fd/2'])(
    'can be opened as %s',
    async (path) => {
      const spec = specOf({ command: ['sh', '-c', `echo opened >${path}; exec sleep 1000`] })
      await provider().start(spec, { signal })
      await waitUntil(() => spec.output.includes('opened\n'))
    },
  )

  test('of ctx.run and ctx.spawn can be opened, too', async () => {
    let said = ''
    const spec = specOf({
      startup: async (ctx) => {
        said = await ctx.run('sh', '-c', 'echo run >/dev/stdout')
        await ctx.spawn('sh', '-c', 'echo spawned >/dev/stderr; exec sleep 1000')
      },
    })
    await provider().start(spec, { signal })
    expect(said).toBe('run\n')
    await waitUntil(() => spec.output.includes('spawned\n'))
  })

  test('is whole to its last byte, in its order, however large and however the process ends', async () => {
    const script =
      'i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done; printf last; kill -KILL $$'
    const spec = specOf({ command: ['sh', '-c', script] })
    const running = await provider().start(spec, { signal })
    expect((await running.exited).detail).toBe('killed by SIGKILL')
    const wanted = `${Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join('')}last`
    const digest = (text: string) => createHash('sha256').update(text).digest('hex')
    expect(digest(spec.output)).toBe(digest(wanted))
  })

  test('blocks the program: a write that is not read waits, and none fails', async () => {
    const spec = specOf({
      startup: async (ctx) => {
        const many = await ctx.run(
          'sh',
          '-c',
          'head -c 3000000 /dev/zero | tr "\\0" x; echo; echo $?',
        )
        expect(many.endsWith('\n0\n')).toBe(true)
        await ctx.spawn('sleep', '1000')
      },
    })
    await provider().start(spec, { signal })
  })

  test('has its own pipe in each of forty instances that start at once', async () => {
    const one = provider()
    const specs = Array.from({ length: 40 }, (_, i) =>
      specOf({ command: ['sh', '-c', `echo I am ${i} >/dev/stdout; exec sleep 1000`] }),
    )
    await Promise.all(specs.map((spec) => one.start(spec, { signal })))
    await waitUntil(() => specs.every(({ output }) => output.endsWith('\n')))
    expect(specs.map(({ output }) => output)).toEqual(specs.map((_, i) => `I am ${i}\n`))
  })
})

test('an instance gets the environment that it was given, whatever shells make of its names', async () => {
  const env = {
    PWD: '/somewhere else',
    'my.name': 'dotted',
    IFS: ':',
    OPTIND: '7',
    EMPTY: '',
    LINES: 'a\nb',
  }
  const spec = specOf({ command: ['/usr/bin/env', '-0'], env })
  const running = await provider().start(spec, { signal })
  await running.exited
  const got = Object.fromEntries(
    spec.output.split('\0').map((line) => [line.split('=')[0], line.slice(line.indexOf('=') + 1)]),
  )
  expect(got).toMatchObject(env)
})
