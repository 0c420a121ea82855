/** The log of tasks, where it is put aside by time. By size, and its lines: see serving.test.ts. */
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { expect, it, onTestFinished, vi } from 'vitest'
import { openRotatingFile } from '../../../src/cli/tasks/rotating-file.ts'
import { createFolder } from '../help.ts'

it('--log-every: at the hour a new log is begun, and the old one compressed', async () => {
  const hour = new Date(2026, 10, 2, 3).getTime()
  // It waits by real timers, and looks at the clock when they end.
  vi.useFakeTimers({ now: hour - 20, toFake: ['Date'] })
  onTestFinished(() => void vi.useRealTimers())
  const at = createFolder()
  const path = join(at, 'tasks.log')
  const file = await openRotatingFile(path, { every: '1h', keep: 2 })
  const rotated = once(file, 'rotated')
  await new Promise((resolve) => file.write('before\n', resolve))
  expect(readdirSync(at)).toEqual(['tasks.log'])
  vi.setSystemTime(hour)
  await rotated
  const closed = once(file, 'close')
  file.end('after\n')
  await closed
  expect(gunzipSync(readFileSync(`${path}.1.gz`)).toString()).toBe('before\n')
  expect(readFileSync(path, 'utf8')).toBe('after\n')
})
