/** A signal that comes while one listener takes the place of another is not lost. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect, it } from 'vitest'

const run = promisify(execFile)
const built = new URL('../../dist/src/cli/interrupt.js', import.meta.url)

/** What a process hears that has sent itself a signal, and then changes its listener by `take`. */
async function heard(take: string): Promise<string> {
  const script = `
    import { replaceSignalListeners } from ${JSON.stringify(fileURLToPath(built))}
    const name = 'SIGTERM'
    process.once(name, () => console.log('the old one'))
    const listener = () => console.log('the new one')
    // It has come when this returns, and is told in a later turn.
    process.kill(process.pid, name)
    ${take}
    // Signals are told in the order in which they came.
    process.once('SIGUSR2', () => process.exit())
    process.kill(process.pid, 'SIGUSR2')
    setTimeout(() => console.log('no signal at all'), 20_000)
  `
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script])
  return stdout.trim()
}

it('signal lost while serve begins', async () => {
  expect(await heard('replaceSignalListeners(name, listener)')).toBe('the new one')
})

it('is what would be lost by taking the old listener away first', async () => {
  expect(await heard('process.removeAllListeners(name).on(name, listener)')).toBe('')
})
