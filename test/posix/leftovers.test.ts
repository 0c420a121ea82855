/**
 * No process of an instance outlives it, whatever the process does to cut its ties: with each containment method of this
 * machine, and however the instance or its session ends.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import {
  type ContainmentKind,
  selectContainmentMethod,
} from '../../src/posix/containment-method.ts'
import { buildProviders, isAlive, pidsWith, waitUntil } from '../providers/process-help.ts'

let built = ''
let count = 0
const scratch = mkdtempSync(join(tmpdir(), 'manyhost-leftovers-'))

/** Starts itself anew, in a session of its own, as long as it is not caught; `$1` is how long its sleepers sleep. */
const respawner = join(scratch, 'respawn.sh')

beforeAll(async () => {
  built = await buildProviders()
  writeFileSync(
    respawner,
    '#!/bin/sh\n/bin/sleep "$1" & /bin/sleep 0.02\n/usr/bin/setsid "$0" "$@" &\n',
    { mode: 0o700 },
  )
})
afterAll(() => {
  rmSync(built, { recursive: true, force: true })
  rmSync(scratch, { recursive: true, force: true })
})

interface Trick {
  readonly name: string
  /** What leaves sleepers behind, by absolute names: no PATH is needed. */
  readonly script: (seconds: string) => string
  /** All ties are cut at once, so only a control group finds the process. */
  readonly isSudden?: boolean
}

const [env, setsid, sleep] = ['/usr/bin/env', '/usr/bin/setsid', '/bin/sleep']

const TRICKS: readonly Trick[] = [
  { name: 'setsid', script: (s) => `${setsid} ${sleep} ${s} & exec ${sleep} ${s}` },
  {
    name: 'setsid with an empty environment',
    script: (s) => `${env} -i ${setsid} ${sleep} ${s} & exec ${sleep} ${s}`,
  },
  {
    name: 'setsid without MANYHOST_SESSION',
    script: (s) => `${env} -u MANYHOST_SESSION ${setsid} ${sleep} ${s} & exec ${sleep} ${s}`,
  },
  {
    name: 'a parent that ends a while after setsid with an empty environment',
    script: (s) =>
      `${env} -i ${setsid} /bin/sh -c '${sleep} ${s} & ${sleep} 0.6' >/dev/null 2>&1 & exec ${sleep} ${s}`,
  },
  {
    name: 'one that starts itself anew by setsid, again and again',
    script: (s) => `${respawner} ${s} & exec ${sleep} ${s}`,
  },
  {
    name: 'a double fork with an empty environment that holds no pipe, at once',
    script: (s) =>
      `(${env} -i ${setsid} /bin/sh -c '${sleep} ${s} &' >/dev/null 2>&1 &); exec ${sleep} ${s}`,
    isSudden: true,
  },
  {
    name: 'one that starts itself anew with an empty environment and without pipes',
    script: (s) => `${env} -i ${respawner} ${s} >/dev/null 2>&1 & exec ${sleep} ${s}`,
    isSudden: true,
  },
]

/** The methods that work on this machine. */
const METHODS: ContainmentKind[] = []
for (const kind of ['cgroup2', 'cgroup1', 'proc'] as const) {
  if (await selectContainmentMethod(kind).catch(() => undefined)) METHODS.push(kind)
}

class Session {
  readonly child: ChildProcessWithoutNullStreams
  readonly seconds = `1000.${process.pid}${++count}`
  readonly #lines: string[] = []

  constructor(script: (seconds: string) => string, kind: ContainmentKind, PATH = '/nowhere') {
    const args = ['test/fakes/contained-session.mjs', built, script(this.seconds), this.seconds]
    this.child = spawn(process.execPath, args, {
      env: { PATH, MANYHOST_CONTAINMENT: kind },
    })
    this.child.stderr.pipe(process.stderr)
    createInterface(this.child.stdout).on('line', (line) => this.#lines.push(line))
    onTestFinished(() => {
      this.child.kill('SIGKILL')
      for (const pid of this.sleepers) process.kill(pid, 'SIGKILL')
    })
  }

  get sleepers(): number[] {
    return pidsWith(`sleep\0${this.seconds}\0`, 'cmdline').filter(isAlive)
  }

  /** The sleepers, and the programs that start further sleepers: all processes but the session that name the seconds. */
  get processes(): number[] {
    return pidsWith(`${this.seconds}\0`, 'cmdline').filter(
      (pid) => pid !== this.child.pid && isAlive(pid),
    )
  }

  async answer(line?: string): Promise<string> {
    if (line) this.child.stdin.write(`${line}\n`)
    return waitUntil(() => this.#lines.shift() ?? false)
  }

  /** One of the plain instance, one of the other itself, and at least one that tries to stay. */
  async up(): Promise<void> {
    expect(await this.answer()).toBe('up')
    await waitUntil(() => this.sleepers.length >= 3)
  }

  async nothingIsLeft(): Promise<void> {
    // A single look at /proc can miss a process that begins while the folder is read.
    let emptyLooks = 0
    await waitUntil(() => {
      emptyLooks = this.processes.length === 0 ? emptyLooks + 1 : 0
      return emptyLooks >= 5
    })
    // A program that starts itself anew would be back by now.
    await new Promise((resolve) => setTimeout(resolve, 60))
    expect(this.processes).toEqual([])
  }
}

describe.each(METHODS)('by %s', (kind) => {
  const tricks = TRICKS.filter(({ isSudden }) => kind !== 'proc' || !isSudden)

  describe.each(tricks)('$name', ({ script }) => {
    test('ends with its instance, and the other instance runs on', async () => {
      const session = new Session(script, kind)
      await session.up()
      expect(await session.answer('stop')).toBe('done')
      await waitUntil(() => session.sleepers.length === 1)
      expect(session.sleepers).toHaveLength(1)
    })

    test('ends with its provider', async () => {
      const session = new Session(script, kind)
      await session.up()
      expect(await session.answer('close')).toBe('done')
      await session.nothingIsLeft()
    })

    test('ends after SIGKILL of its session', async () => {
      const session = new Session(script, kind)
      await session.up()
      // A scan of /proc must have found the process before.
      if (kind === 'proc') await new Promise((resolve) => setTimeout(resolve, 400))
      session.child.kill('SIGKILL')
      await session.nothingIsLeft()
    })
  })

  test('a guard that is killed ten times is replaced each time, and the last guard ends the processes', async () => {
    const session = new Session((TRICKS[1] as Trick).script, kind)
    await session.up()
    const killed = new Set<number>()
    // The session answers the pid of a killed guard until it has heard of its end, and 0 while it has no guard.
    const waitForNewGuard = () =>
      waitUntil(async () => {
        const pid = Number(await session.answer('guard'))
        return pid !== 0 && !killed.has(pid) && pid
      })
    for (let i = 0; i < 10; i++) {
      const guard = await waitForNewGuard()
      killed.add(guard)
      process.kill(guard, 'SIGKILL')
    }
    await waitForNewGuard()
    session.child.kill('SIGKILL')
    await session.nothingIsLeft()
  })

  test('SIGKILL of a session at any moment of its start leaves nothing', async () => {
    for (let i = 0; i < 6; i++) {
      const session = new Session((TRICKS[0] as Trick).script, kind)
      const moment = waitUntil(() => session.sleepers.length > i % 3)
      await moment
      session.child.kill('SIGKILL')
      await session.nothingIsLeft()
    }
  })
})

test('an unknown method is refused with a list of the methods', async () => {
  await expect(selectContainmentMethod('vm')).rejects.toThrow(
    "MANYHOST_CONTAINMENT must be one of cgroup2, cgroup1, proc, groups, got 'vm'",
  )
})
