/**
 * The original beside ours: the command lines of test/tasks/hypershell-lines.ts, run by HyperShell 2.8 where `hs` is in
 * PATH. It is a Python package that no Debian package brings: `pip install hypershell`.
 */
import { execFile } from 'node:child_process'
import { accessSync, constants, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { CASES, type Case, FILES } from '../tasks/hypershell-lines.ts'

const run = promisify(execFile)

const ORIGINAL = (process.env.PATH ?? '')
  .split(delimiter)
  .flatMap((folder) => ['hs', 'hyper-shell'].map((name) => join(folder, name)))
  .find((path) => {
    try {
      accessSync(path, constants.X_OK)
      return true
    } catch {
      return false
    }
  })

async function printed({ commands, isEmpty }: Case): Promise<string[]> {
  const home = mkdtempSync(join(tmpdir(), 'manyhost-hs-'))
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(home, name), text)
  const options = {
    cwd: home,
    env: { ...process.env, HYPERSHELL_SITE: home, HYPERSHELL_DATABASE_FILE: join(home, 'main.db') },
  }
  const before = isEmpty ? [['initdb']] : [['initdb'], ['submit', '-f', 'tasks.txt']]
  let stdout = ''
  for (const words of [...before, ...commands]) {
    stdout = (await run(ORIGINAL as string, words, options)).stdout
  }
  return stdout.split('\n').filter((line) => line !== '')
}

if (ORIGINAL === undefined) {
  console.warn(
    '!! NOT RUN: hypershell: neither hs nor hyper-shell is in PATH (pip install hypershell)',
  )
}

describe.skipIf(ORIGINAL === undefined)('HyperShell itself', () => {
  test.each(
    CASES.map((one) => [one.commands.map((words) => words.join(' ')).join('; '), one] as const),
  )('%s', async (_, one) => {
    expect((await printed(one)).toSorted()).toEqual(one.prints.toSorted())
  })
})
