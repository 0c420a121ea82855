/** A task is accepted as what will be run. */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { describeLeftovers, describeNextSteps } from '../../../src/cli/tasks/next-steps.ts'
import { createTaskAcceptor } from '../../../src/tasks/model/accept-task.ts'
import { TemplateError } from '../../../src/tasks/text/template.ts'
import { createFolder } from '../../cli/help.ts'

describe('a task that is accepted', () => {
  const accept = createTaskAcceptor({
    template: 'echo {} {site}',
    cwd: '/a',
    shell: '/bin/bash',
    env: { X: '1', Y: '1' },
    batch: 'b',
  })

  it('has the command that its template makes, its folder, shell, variables and batch', async () => {
    expect(await accept({ args: '7', tag: { site: 'z' } })).toEqual({
      args: '7',
      tag: { site: 'z' },
      template: 'echo {} {site}',
      command: 'echo 7 z',
      cwd: '/a',
      shell: '/bin/bash',
      env: { X: '1', Y: '1' },
      batch: 'b',
    })
  })

  it('keeps what it says itself', async () => {
    const own = { args: '7', template: 'ls {}', cwd: '/b', shell: '/bin/dash', env: { X: '2' } }
    expect(await accept(own)).toEqual({
      ...own,
      command: 'ls 7',
      env: { X: '2', Y: '1' },
      batch: 'b',
    })
    expect(await accept({ args: '7', command: 'rm 7' })).toMatchObject({ command: 'rm 7' })
  })

  it('has no command yet where its place must say it, or the line does not fit', async () => {
    for (const template of ['{} {slot}', '{% echo @ %}', '{[5]}', '{= 1 / 0 =}']) {
      const made = await createTaskAcceptor({ template })({ args: 'a b' })
      expect(made).toEqual({ args: 'a b', template })
    }
  })

  it('is its line where there is no template', async () => {
    expect(await createTaskAcceptor({ template: '{}' })({ args: 'a b' })).toEqual({ args: 'a b' })
  })

  it('that is a request has a folder and a batch alone', async () => {
    const request = { method: 'GET', url: 'http://calc/', headers: {}, body: null }
    expect(await accept({ args: 'GET http://calc/', request })).toEqual({
      args: 'GET http://calc/',
      request,
      cwd: '/a',
      batch: 'b',
    })
  })

  it('cannot be one where its own template cannot be read', () => {
    expect(() => accept({ args: 'x', template: '{= ( =}' })).toThrow(TemplateError)
  })
})

describe('what others have left', () => {
  it('is told by folder, the largest first, three of them', () => {
    const left = [
      { cwd: '/b', isSubmitted: false, isAlive: false, tasks: 12 },
      { cwd: '/a', isSubmitted: false, isAlive: false, tasks: 1 },
      { cwd: undefined, isSubmitted: true, isAlive: false, tasks: 2 },
      { cwd: '/c', isSubmitted: false, isAlive: false, tasks: 5 },
      { cwd: '/d', isSubmitted: false, isAlive: false, tasks: 1 },
    ]
    expect(describeLeftovers(left, '/a')).toEqual([
      '12 tasks of an earlier batch in /b wait: --restart runs them, in that folder',
      '1 task of an earlier batch in /a waits: --restart runs it',
      '2 submitted tasks wait: manyhost tasks server runs all of them, manyhost tasks cluster --restart those of this folder',
      '6 more tasks wait in other folders',
    ])
    expect(describeLeftovers([], '/a')).toEqual([])
    const alive = { cwd: '/a', isSubmitted: false, isAlive: true, tasks: 1 }
    expect(describeLeftovers([alive], '/a')).toEqual([
      '1 task of this folder belongs to a run that is active, or was a moment ago (--evict-after): when that run has ended, --restart runs it',
    ])
  })
})

describe('the next command', () => {
  const counts = { submitted: 9, succeeded: 1, failed: 0, cancelled: 0, retried: 0, refused: 0 }
  const remaining = { batch: 'b7', waiting: 0, isSourceWhole: true, lines: 9, hasStanding: false }
  const all = { counts, remaining, flags: {}, file: undefined, hasSource: true }

  it('is none where nothing is left', () => {
    expect(describeNextSteps(all)).toEqual([])
  })

  it('runs what waits, with the attempts and the store that were named', () => {
    const waiting = { ...remaining, waiting: 2 }
    const flags = { maxRetries: 2, store: "it's.db" }
    expect(describeNextSteps({ ...all, remaining: waiting, flags })).toEqual([
      "2 tasks wait; to run them: manyhost tasks cluster --restart -r 2 --store 'it'\\''s.db'",
    ])
    const older = { restart: true, template: 'x {}' }
    expect(
      describeNextSteps({ ...all, remaining: waiting, flags: older, hasSource: false }),
    ).toEqual(["2 tasks wait; to run them: manyhost tasks cluster --restart -t 'x {}'"])
    const secret = { store: 'postgres://me:s3cret@h/d' }
    expect(describeNextSteps({ ...all, remaining: waiting, flags: secret }).join()).not.toMatch(
      /s3cret/,
    )
    expect(describeNextSteps({ ...all, remaining: waiting, flags: { db: false } })).toEqual([
      '2 tasks were not run, and are lost (--no-db)',
    ])
  })

  it('goes on with the source where that was not read to its end', () => {
    const cut = { ...remaining, isSourceWhole: false }
    const flags = { template: 'echo {}' }
    expect(describeNextSteps({ ...all, remaining: cut, flags, file: 'a b.txt' })).toEqual([
      "a b.txt was read up to line 9; to run the rest: tail -n +10 'a b.txt' | manyhost tasks cluster -t 'echo {}'",
    ])
    expect(describeNextSteps({ ...all, remaining: cut })).toEqual([
      'standard input was read up to line 9; to run the rest, give it again from line 10 on: manyhost tasks cluster',
    ])
  })

  it('says of the rest, and of the run, all that the command line said', () => {
    const cut = { ...remaining, waiting: 1, isSourceWhole: false }
    const flags = {
      ...{ maxRetries: 2, taskTimeout: 1_500, cores: 0.5, memory: 1024, group: 3 },
      tag: ['a:1', 'b:x'],
    }
    expect(describeNextSteps({ ...all, remaining: cut, flags, file: 'a.txt' })).toEqual([
      '1 task waits; to run it: manyhost tasks cluster --restart -r 2 -W 1.5',
      'a.txt was read up to line 9; to run the rest: tail -n +10 a.txt | manyhost tasks cluster -c 0.5 -m 1024 -g 3 --tag a:1 b:x -r 2 -W 1.5',
    ])
  })

  it('says of the rest what lines of a directive alone said of it', () => {
    const file = join(createFolder(), 'a b.txt')
    const lines = ['# MANYHOST: group:7 all:yes', 'one', '  # HYPERSHELL: cores:2', 'two', 'three']
    writeFileSync(file, lines.join('\n'))
    const cut = { ...remaining, isSourceWhole: false, lines: 4, hasStanding: true }
    const [said = ''] = describeNextSteps({ ...all, remaining: cut, file })
    const [, command = ''] = /to run the rest: (.*) \| manyhost tasks cluster$/.exec(said) ?? []
    const rest = execFileSync('sh', ['-c', command], { encoding: 'utf8' })
    expect(rest.split('\n')).toEqual([lines[0], lines[2], lines[4]])
    expect(describeNextSteps({ ...all, remaining: cut })).toEqual([
      "standard input was read up to line 4; to run the rest, give it again from line 5 on, behind its lines of '# MANYHOST:' alone: manyhost tasks cluster",
    ])
  })

  it('shows failures and runs them again, from the file of failures where there is one', () => {
    const failed = { ...counts, failed: 3 }
    expect(describeNextSteps({ ...all, counts: failed })).toEqual([
      "3 failed; to see them: manyhost tasks list id exit_status args -w 'batch == b7' -w 'state == failed'",
      "to run them again: manyhost tasks update --revert -w 'batch == b7' -w 'state == failed' -f && manyhost tasks cluster --restart",
    ])
    const flags = { failures: 'failed.txt', fromJson: true }
    expect(describeNextSteps({ ...all, counts: failed, flags })).toEqual([
      '3 failed; to run what is in that file again: manyhost tasks cluster failed.txt --from-json',
    ])
    const both = { flags: { failures: 'f', template: 'x {}' }, failureFiles: ['f', 'f.json'] }
    expect(describeNextSteps({ ...all, counts: failed, ...both })).toEqual([
      "3 failed; to run what is in these files again: manyhost tasks cluster f -t 'x {}'; manyhost tasks cluster f.json -t 'x {}' --from-json",
    ])
  })
})
