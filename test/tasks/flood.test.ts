/** Tasks that print 1 GB each: one is kept in a file, one is printed. In little memory, and others go on beside them. */
import { spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { createReadStream, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { crc32 } from 'node:zlib'
import { expect, it, onTestFinished } from 'vitest'
import { openStore } from '../../src/tasks.ts'
import { createFolder } from '../cli/help.ts'
import { waitUntil } from '../help.ts'
import { runnersOf } from './runner-help.ts'

/** Of one block, which a task prints so often. */
const BLOCK = 10_000_000
const TIMES = 100

/** More than its size at rest: what buffers and the collector's leisure may take, and a tenth of what passes. */
const MOST_MEMORY = 150_000_000

/** The most memory that a process ever had, in bytes, by the kernel's own count. */
function peak(pid: number): number {
  return (
    1_024 * Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  )
}

async function sum(stream: AsyncIterable<Uint8Array>) {
  let [bytes, crc] = [0, 0]
  for await (const chunk of stream) {
    bytes += chunk.length
    crc = crc32(chunk, crc)
  }
  return { bytes, crc }
}

it('a task that prints 1 GB: all of it is kept, or printed, in little memory, and others go on', async () => {
  const block = randomFillSync(Buffer.alloc(BLOCK))
  const at = createFolder()
  writeFileSync(join(at, 'block'), block)
  const path = join(at, 'tasks.db')
  const store = await openStore(path)
  const mark = `flood-${process.pid}`
  const program = resolve('dist/src/cli/main.js')
  const args = [program, 'tasks', 'server', '-p', '0', '-N', '3', '--store', path]
  const server = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, MANYHOST_MARK: mark, MANYHOST_TASKS_TOKEN: 'a token of this very test' },
  })
  onTestFinished(() => void server.kill('SIGKILL'))
  const exitOf = async (id: string) => (await store.get(id)).exitStatus
  const add = async (args: string, tag = {}) => (await store.add([{ args, tag }]))[0] as string

  const first = await add('true')
  await waitUntil(async () => (await exitOf(first)) === 0)
  const pids = [server.pid as number, ...runnersOf(`MANYHOST_MARK=${mark}`)]
  expect(pids).toHaveLength(2)
  const atRest = pids.map(peak)

  const flood = `for i in $(seq ${TIMES}); do cat ${join(at, 'block')}; done`
  const printed = await add(flood)
  await waitUntil(async () => (await store.get(printed)).clientId !== null)
  const kept = await add(flood, { capture: true })
  // What is printed waits for who reads it, and nobody does yet.
  const small = await Promise.all(Array.from({ length: 20 }, () => add('true')))
  await waitUntil(async () => (await Promise.all(small.map(exitOf))).every((one) => one === 0))
  await waitUntil(async () => (await exitOf(kept)) === 0)
  expect(await exitOf(printed)).toBeNull()

  const reading = sum(server.stdout)
  await waitUntil(async () => (await exitOf(printed)) === 0)
  const grown = pids.map((pid, index) => peak(pid) - (atRest[index] as number))
  server.kill('SIGTERM')
  let crc = 0
  for (let i = 0; i < TIMES; i++) crc = crc32(block, crc)
  const all = { bytes: BLOCK * TIMES, crc }
  expect(await reading).toEqual(all)
  expect(await sum(createReadStream((await store.get(kept)).outpath as string))).toEqual(all)
  for (const bytes of grown) expect(bytes, grown.join()).toBeLessThan(MOST_MEMORY)
  await store.close()
}, 300_000)
