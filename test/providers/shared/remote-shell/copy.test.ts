/** Files to and from machines that break off: on this one, by its own shell. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { downloadByShell, uploadByShell } from '../../../../providers/shared/remote-shell/copy.ts'
import type {
  RemoteMachine,
  RemoteShell,
} from '../../../../providers/shared/remote-shell/machine.ts'
import { BOOTSTRAP } from '../../../../providers/shared/remote-shell/shell.ts'
import { rejectionOf } from '../../../help.ts'

const SIZE = 3_000_000
let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'manyhost-copy-'))
  mkdirSync(join(folder, 'tree'))
  writeFileSync(join(folder, 'tree', 'big'), Buffer.alloc(SIZE, 7))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

/** This machine, whose shells find what is in `bin` first. */
function machine(bin = ''): RemoteMachine {
  return {
    name: 'here',
    async openShell(): Promise<RemoteShell> {
      const env = { ...process.env, PATH: `${bin}:${process.env.PATH}` }
      const child = spawn('sh', ['-c', BOOTSTRAP], { env })
      const exit = once(child, 'close').then(([code]) => code as number)
      const { stdin, stdout, stderr } = child
      return { stdin, stdout, stderr, exit, destroy: () => void child.kill('SIGKILL') }
    },
  }
}

/** One whose answer is cut after so many bytes, and that said before that all went well. */
function cutAfter(bytes: number): RemoteMachine {
  return {
    name: 'far',
    async openShell() {
      const shell = await machine().openShell()
      const stdout = new PassThrough()
      let count = 0
      shell.stdout.on('data', (chunk: Buffer) => {
        const room = Math.max(0, bytes - count)
        count += chunk.length
        if (room > 0) stdout.write(chunk.subarray(0, room))
        if (count >= bytes) stdout.destroy()
      })
      return { ...shell, stdout, exit: shell.exit.then(() => 0) }
    },
  }
}

test('a file and a folder, there and back', async () => {
  await uploadByShell(machine(), join(folder, 'tree'), join(folder, 'there'), undefined)
  await downloadByShell(machine(), join(folder, 'there'), join(folder, 'back'), undefined)
  expect(readFileSync(join(folder, 'back', 'big')).length).toBe(SIZE)
  await uploadByShell(machine(), join(folder, 'tree', 'big'), join(folder, 'one'), undefined)
  expect(readFileSync(join(folder, 'one')).length).toBe(SIZE)
})

test('a far tar that leaves what follows the end of the archive unread has had all', async () => {
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  // It stops long before the end, so that what is left fits into no pipe.
  writeFileSync(join(bin, 'tar'), '#!/bin/sh\ndd bs=512 count=1 >/dev/null 2>&1\necho had >had\n')
  chmodSync(join(bin, 'tar'), 0o755)
  await uploadByShell(machine(bin), join(folder, 'tree'), join(folder, 'there'), undefined)
  expect(existsSync(join(folder, 'there', 'had'))).toBe(true)
})

test('a far tar that fails is told in its words', async () => {
  const bin = join(folder, 'bin')
  mkdirSync(bin)
  writeFileSync(join(bin, 'tar'), '#!/bin/sh\necho no space left >&2\nexit 2\n')
  chmodSync(join(bin, 'tar'), 0o755)
  const error = await rejectionOf(
    uploadByShell(machine(bin), join(folder, 'tree'), join(folder, 'there'), undefined),
  )
  expect(error.message).toMatch(/cannot upload .*: no space left/)
})

test('a file whose connection is cut in its midst is an error, and no wait without end', async () => {
  const copy = downloadByShell(
    cutAfter(100_000),
    join(folder, 'tree', 'big'),
    join(folder, 'back'),
    undefined,
  )
  expect((await rejectionOf(copy)).message).toMatch(/cannot download .*: the connection was cut/)
})

test('a folder whose connection is cut in its midst is an error, and no wait without end', async () => {
  const copy = downloadByShell(
    cutAfter(100_000),
    join(folder, 'tree'),
    join(folder, 'back'),
    undefined,
  )
  expect((await rejectionOf(copy)).message).toMatch(/cannot download .*: tar: /)
})
