/** What goes wrong around a batch, and does not end it. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import Database from 'libsql'
import { expect, it, onTestFinished } from 'vitest'
import { quoteShellWord } from '../../src/posix/shell-words.ts'
import { LONGEST_LINE } from '../../src/tasks/text/source.ts'
import { type OnOutput, openStore, runCluster, serveForever } from '../../src/tasks.ts'
import { rejectionOf, waitUntil } from '../help.ts'

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'manyhost-faults-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

it('a store that is locked by another program: outcomes wait, and none is lost', async () => {
  const at = folder()
  const [path, go] = [join(at, 'tasks.db'), join(at, 'go')]
  const store = await openStore(path, { busyTimeout: 50 })
  onTestFinished(() => store.close())
  const problems: string[] = []
  // All but the first end when the store is locked, however fast they are.
  const held = Array.from({ length: 199 }, () => `until test -e ${go}; do sleep 0.02; done`)
  const run = runCluster(['true', ...held], {
    store,
    numTasks: 2,
    onProblem: (problem) => problems.push(problem),
  })
  await waitUntil(() => run.counts.succeeded > 0)
  // It may have to wait for the lock as well.
  const other = new Database(path, { timeout: 60_000 })
  other.exec('BEGIN IMMEDIATE')
  writeFileSync(go, '')
  await waitUntil(() => problems.some((one) => /locked by another program/.test(one)))
  other.exec('COMMIT')
  other.close()
  expect(await run).toMatchObject({ succeeded: 200, refused: 0 })
  expect(await store.counts()).toMatchObject({ succeeded: 200, total: 200 })
})

it('a disk that is full is reported, and the run goes on when there is space', async () => {
  const store = await openStore(join(folder(), 'tasks.db'))
  onTestFinished(() => store.close())
  const limitPages = (count: number) => store.statement(`PRAGMA max_page_count = ${count}`)
  const [{ page_count: pages } = {}] = await store.statement('PRAGMA page_count')
  await limitPages(Number(pages) + 4)
  const problems: string[] = []
  const run = runCluster(
    Array.from({ length: 50 }, (_, n) => `true ${n} ${'x'.repeat(2_000)}`),
    { store, numTasks: 2, onProblem: (problem) => problems.push(problem) },
  )
  await waitUntil(() => problems.some((one) => /space|full/.test(one)))
  await limitPages(1_000_000)
  expect(await run).toMatchObject({ submitted: 50, succeeded: 50 })
})

it('a disk that is full of what tasks write: it says so, loses none of it, and others go on', async () => {
  const at = folder()
  const outputs = join(at, 'outputs')
  mkdirSync(outputs)
  const disk = (options: string) =>
    spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'manyhost-test', outputs]).status === 0
  if (!disk('size=256k')) return console.warn('SKIPPED: it takes root to mount a small disk')
  onTestFinished(() => void spawnSync('umount', ['-l', outputs]))
  const store = await openStore(join(at, 'tasks.db'))
  onTestFinished(() => store.close())
  const problems: string[] = []
  const run = runCluster(undefined, {
    store,
    forever: true,
    numTasks: 2,
    onProblem: (problem) => problems.push(problem),
  })
  await run.ready
  const [large = ''] = await store.add([{ args: 'yes | head -c 1000000', tag: { capture: true } }])
  await waitUntil(() => problems.some((one) => /cannot write to .*no space left/i.test(one)))
  const [other = ''] = await store.add([{ args: 'true' }])
  await waitUntil(async () => (await store.get(other)).exitStatus === 0)
  expect(await store.get(large)).toMatchObject({ exitStatus: null })
  expect(disk('remount,size=4m')).toBe(true)
  await waitUntil(async () => (await store.get(large)).exitStatus === 0)
  expect(statSync((await store.get(large)).outpath as string).size).toBe(1_000_000)
  // A task that never gets space does not keep the run from ending: it is in the queue again.
  expect(disk('remount,size=2m')).toBe(true)
  const seen = problems.length
  const [never = ''] = await store.add([{ args: 'yes | head -c 9000000', tag: { capture: true } }])
  await waitUntil(() => problems.slice(seen).some((one) => /no space left/i.test(one)))
  run.stop()
  await run
  expect(await store.get(never)).toMatchObject({ exitStatus: null, serverId: null })
})

it('tasks that print much, leave children, and ignore signals: the others end as they would', async () => {
  let bytes = 0
  const run = runCluster(
    [
      'head -c 100000000 /dev/zero',
      'sleep 300 & sleep 300 & exit 0',
      "trap '' INT TERM; sleep 300 # MANYHOST: timeout:5s",
      'true',
      'true',
    ],
    {
      inMemory: true,
      numTasks: 3,
      signalWait: 100,
      onOutput: (_task, _stream, chunk) => {
        bytes += chunk.length
      },
    },
  )
  const statuses = []
  for await (const { exitStatus } of run) statuses.push(exitStatus)
  expect(statuses.toSorted()).toEqual([0, 0, 0, 0, 137])
  expect(bytes).toBe(100_000_000)
})

it('lines and commands of all kinds: each wrong one has its error, each good one its bytes', async () => {
  const store = await openStore(join(folder(), 'tasks.db'))
  onTestFinished(() => store.close())
  const text = `it's "q" \\ $HOME \`x\` ; & | # %s ünï`
  const quoted = `printf '%s\n' ${quoteShellWord(text)}`
  await store.add([{ args: 'echo new\necho line' }, { args: quoted }])
  const long = `: ${'x'.repeat(LONGEST_LINE - 20)};`
  const lines = [
    'a NUL \0',
    Buffer.from([0xff, 0xfe]),
    `${long} echo long`,
    `${long} echo longer than it may be`,
    'true # MANYHOST: cores:none',
    'four',
    'no-such-command',
    'echo last',
  ]
  const bad: string[] = []
  const printed: string[] = []
  const onOutput: OnOutput = (_task, stream, chunk) => {
    if (stream === 'stdout') printed.push(...Buffer.from(chunk).toString().trim().split('\n'))
  }
  // What was handed in is none of the batch's.
  await runCluster(undefined, { store, onOutput })
  const run = runCluster(Readable.from(lines.flatMap((one) => [Buffer.from(one), Buffer.of(10)])), {
    store,
    numTasks: 2,
    // It does not fit a line of four characters.
    template: '{}{= len(x) == 4 ? x[9] : "" =}',
    onBad: ({ message }) => bad.push(message),
    onOutput,
  })
  const failed: Record<string, unknown> = {}
  for await (const { args, exitStatus, message } of run) {
    if (exitStatus !== 0) failed[args.slice(0, 40)] = [exitStatus, message]
  }
  expect(bad).toEqual([
    expect.stringMatching(/^line 1: it has a NUL character/),
    expect.stringMatching(/^line 2: it is not UTF-8/),
    expect.stringMatching(/^line 4: it is longer than 1048576 bytes/),
    expect.stringMatching(/^line 5: directive "cores:none"/),
  ])
  expect(failed).toEqual({
    four: [-2, expect.stringMatching(/x\[9\]/)],
    'no-such-command': [127, undefined],
  })
  expect(printed.toSorted()).toEqual(['last', 'line', 'long', 'new', text].toSorted())
})

it('a server that was taken for dead goes on as a new one, and its old claims are refused', async () => {
  const store = await openStore(join(folder(), 'tasks.db'))
  onTestFinished(() => store.close())
  const problems: string[] = []
  const run = serveForever({
    store,
    // It beats every 3 s; a runner may be silent for longer than any pause of this machine.
    evictAfter: 12_000,
    poll: 100,
    onProblem: (problem) => problems.push(problem),
  })
  await run.ready
  const [id = ''] = await store.add([{ args: 'test $TASK_FENCE = 2 || sleep 60' }])
  await waitUntil(async () => (await store.get(id)).clientId !== null)
  const [server] = await store.servers()
  await store.unregisterServer(server?.id as string)
  await waitUntil(async () => (await store.get(id)).exitStatus !== null)
  expect(await store.get(id)).toMatchObject({ exitStatus: 0, fence: 2, attempt: 1 })
  expect(problems.join()).toMatch(/took this one for dead/)
  run.stop()
  await run
})

it('a runner that cannot be started: the reason is reported, and stop ends the run', async () => {
  const run = runCluster(['true'], { inMemory: true, runner: ['/no/such/program'] })
  await run.ready
  run.stop()
  expect(await run).toMatchObject({ succeeded: 0 })
})

it.each([
  ['of a newer version', "UPDATE meta SET value = 99 WHERE name = 'version'"],
  ['that is none', 'DROP TABLE meta'],
])('a store %s: it rejects before anything runs', async (_, change) => {
  const path = join(folder(), 'tasks.db')
  await (await openStore(path)).close()
  const other = new Database(path)
  other.exec(change)
  other.close()
  const run = runCluster(['true'], { store: path })
  expect(await rejectionOf(run.ready)).toMatchObject({ code: 'MANYHOST_STORE_VERSION' })
  expect(await rejectionOf(run.then())).toMatchObject({ code: 'MANYHOST_STORE_VERSION' })
})
