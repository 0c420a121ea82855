/** How far tasks are, as people see it: a bar on a terminal, which `script` of util-linux has; lines elsewhere. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join, resolve } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { waitUntil } from '../../help.ts'
import { createFolder, runManyhost } from '../help.ts'

const BIN = resolve('dist/src/cli/main.js')
const hasScript = spawnSync('script', ['--version']).status === 0
if (!hasScript) console.error('!! SKIPPED: the progress bar: there is no `script` (util-linux)')

it.skipIf(!hasScript)(
  'draws a bar on a terminal, and leaves room for what tasks write',
  async () => {
    const at = createFolder()
    // The second goes on until the bar was seen.
    const line = `{ echo written; false; }\nuntil test -e ${at}/seen; do sleep 0.05; done`
    const command = `printf '%s\\n' '${line}' | '${process.execPath}' '${BIN}' tasks cluster --no-db -N 2`
    const child = spawn('script', ['-qefc', command, join(at, 'typescript')], {
      env: { ...process.env, XDG_DATA_HOME: at, TERM: 'xterm', SHELL: '/bin/sh' },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    onTestFinished(() => void child.kill('SIGKILL'))
    let text = ''
    child.stdout.on('data', (chunk) => {
      text += chunk
    })
    const closed = once(child, 'close')
    await waitUntil(() => / 50% \| 1\/2 \| 1 failed \| \S+\/s \| .* left/.test(text))
    // On a line of its own, at its beginning.
    expect(text).toContain('\r\u001b[Kwritten\r\n')
    spawnSync('touch', [join(at, 'seen')])
    const [code] = await closed
    expect(text).toMatch(/manyhost: 1 succeeded, 1 failed, in /)
    expect(code).toBe(1)
  },
  180_000,
)

it('draws none where nobody looks: standard error has plain lines', async () => {
  const env = { XDG_DATA_HOME: createFolder() }
  const ended = await runManyhost(['tasks', 'cluster', '--no-db'], { env, input: 'true\nfalse\n' })
  expect(ended.stderr).toMatch(/^manyhost: 1 succeeded, 1 failed, in [\d.]+m?s\n$/)
  expect(ended.stdout).toBe('')
}, 180_000)
