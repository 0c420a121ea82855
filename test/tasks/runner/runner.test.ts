/** Shell tasks through a real runner over HTTP: real processes, real signals. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { now, sleep } from '../../../src/core/time.ts'
import { quoteShellWord } from '../../../src/posix/shell-words.ts'
import { createMemoryMeter, waitUntil } from '../../help.ts'
import { isAlive, pidsWith as pidsIn } from '../../providers/process-help.ts'
import { clientOf, collect, pidsWith, startRunner, taskOf } from '../runner-help.ts'

const folder = () => mkdtempSync(join(tmpdir(), 'manyhost-runner-test-'))

test('outputs and outcomes of many tasks, each with its own', async () => {
  const { run } = await startRunner({ numTasks: 3 })
  const commands = Array.from(
    { length: 60 },
    (_, n) => `echo out ${n}; echo err ${n} >&2; exit ${n % 7}`,
  )
  const { outcomes, stdout, stderr, messages } = await run(commands)
  expect(outcomes.size).toBe(60)
  for (let n = 0; n < 60; n++) {
    expect(outcomes.get(`t${n}`)).toMatchObject({
      exitStatus: n % 7,
      fence: 1,
      command: commands[n],
    })
    expect(stdout.get(`t${n}`)).toBe(`out ${n}\n`)
    expect(stderr.get(`t${n}`)).toBe(`err ${n}\n`)
  }
  expect(messages[0]).toMatchObject({ is: 'hello', hello: { numTasks: 3 } })
  expect(messages.at(-1)).toEqual({ is: 'end' })
})

test('the outcome of a task comes behind all of its output', async () => {
  const { run } = await startRunner()
  const { messages } = await run(['seq 1 100000'], { bundleSize: 1 })
  const last = messages.findLastIndex(({ is }) => is === 'stdout')
  expect(messages.findIndex(({ is }) => is === 'outcomes')).toBeGreaterThan(last)
})

test('exit statuses: of the shell, of signals, of commands that are not there', async () => {
  const { run } = await startRunner()
  const own = `sh -c 'kill -9 $$'`
  const commands = [
    'exit 7',
    'kill -TERM $$',
    'kill -9 $$',
    'kill -SEGV $$',
    'nosuchcommand',
    'if',
    own,
  ]
  const { outcomes, stderr } = await run(commands)
  const statuses = commands.map((_, n) => outcomes.get(`t${n}`)?.exitStatus)
  expect(statuses).toEqual([7, 143, 137, 139, 127, 2, 137])
  // What the launcher's shell says of the dead is not the task's.
  expect(stderr.get('t1')).toBeUndefined()
  expect(stderr.get('t2')).toBeUndefined()
  expect(stderr.get('t3')).toBeUndefined()
  expect(stderr.get('t4')).toMatch(/nosuchcommand/)
  expect(stderr.get('t6')).toBeUndefined()
})

test('a program that does not exist has the message of a shell of its own, whichever task it is', async () => {
  const { run } = await startRunner({ numTasks: 1 })
  const commands = ['true', 'nosuchcommand a', './nosuchfile', 'echo x; nosuchcommand']
  const { stderr } = await run([...commands, ...commands])
  for (const n of [1, 5]) expect(stderr.get(`t${n}`)).toBe('/bin/sh: 1: nosuchcommand: not found\n')
  for (const n of [2, 6]) expect(stderr.get(`t${n}`)).toBe('/bin/sh: 1: ./nosuchfile: not found\n')
  for (const n of [3, 7]) expect(stderr.get(`t${n}`)).toBe('/bin/sh: 1: nosuchcommand: not found\n')
  const folder = await run(['true', 'true'], { cwd: '/no/such/folder' })
  expect(folder.outcomes.get('t1')).toMatchObject({ exitStatus: 127 })
  expect(folder.stderr.get('t1')).toBe("cannot enter folder '/no/such/folder'\n")
})

test('a task can open its outputs by name', async () => {
  const { run } = await startRunner()
  const { stdout, stderr, outcomes } = await run([
    'echo one >/dev/stdout; echo two >/dev/stderr; echo three >/proc/self/fd/1',
    'tee /dev/stderr </dev/null',
  ])
  expect(stdout.get('t0')).toBe('one\nthree\n')
  expect(stderr.get('t0')).toBe('two\n')
  expect(outcomes.get('t1')?.exitStatus).toBe(0)
})

test('what a task leaves in a session of its own, with an empty environment, ends soon', async () => {
  const { run } = await startRunner({ numTasks: 1 })
  const seconds = `1000.${process.pid}7`
  const left = (): number[] => pidsIn(`sleep\0${seconds}\0`, 'cmdline').filter(isAlive)
  // The script hides what it does from the runner.
  const hidden = Buffer.from(`env -i setsid sleep ${seconds} >/dev/null 2>&1 &`).toString('base64')
  const { outcomes } = await run([`echo ${hidden} | base64 -d | sh; sleep 0.2`])
  expect(outcomes.get('t0')?.exitStatus).toBe(0)
  await waitUntil(() => left().length === 0)
})

test('a last line `Killed` that the task wrote itself stays', async () => {
  const { run } = await startRunner()
  const { stderr } = await run(['echo Killed >&2', 'echo Killed >&2; sleep 0.05; echo more >&2'])
  expect(stderr.get('t0')).toBe('Killed\n')
  expect(stderr.get('t1')).toBe('Killed\nmore\n')
})

test('a # inside a command, quotes, newlines, dollars and bytes of all kinds arrive as they are', async () => {
  const { run } = await startRunner()
  const text = `it's "q" \\ $HOME \`x\` # no comment ; & | \n two\ttabs ünï 🎉 %s`
  const { stdout } = await run([`printf %s ${quoteShellWord(text)}`, 'echo https://x/z#anchor'])
  expect(stdout.get('t0')).toBe(text)
  expect(stdout.get('t1')).toBe('https://x/z#anchor\n')
})

test('$$ is the own process, stdin is empty, and the group leader is not the task', async () => {
  const { run } = await startRunner({ numTasks: 1 })
  const { stdout } = await run(['echo $$', 'echo $$', 'cat; echo read'])
  expect(stdout.get('t0')).not.toBe(stdout.get('t1'))
  expect(stdout.get('t2')).toBe('read\n')
})

test('a template, tags, {slot}, and TASK_*', async () => {
  const env = {
    ...process.env,
    MANYHOST_EXPORT_SITE: 'here',
    HYPERSHELL_EXPORT_OLD: 'too',
    MANYHOST_RUNNER_TOKEN: 'secret',
  }
  const { run } = await startRunner({ numTasks: 1 }, env)
  const task = {
    id: 'one',
    args: '/data/a b.txt',
    group: 4,
    tag: { site: 'x', 'final.run': true },
    submitTime: 12,
  }
  const { stdout, outcomes } = await run([task], {
    template:
      'echo "{/-}" {slot} {site} $TASK_ID $TASK_GROUP $TASK_TAG_FINAL_RUN $TASK_SUBMIT_TIME $TASK_SLOT "$TASK_ARGS" $SITE $OLD "[$MANYHOST_RUNNER_TOKEN$PORT]"',
  })
  expect(stdout.get('one')).toBe(
    'a b 1 x one 4 true 1970-01-01T00:00:00.012Z 1 /data/a b.txt here too []\n',
  )
  expect(outcomes.get('one')?.command).toContain('echo "a b" 1 x')
})

test('{% %} runs on the runner, and its failure is status -2 with its standard error', async () => {
  const { run } = await startRunner()
  const good = await run(['abc'], { template: 'echo {% echo @ | tr a-c x-z %}' })
  expect(good.stdout.get('t0')).toBe('xyz\n')
  const bad = await run(['abc', 'ok'], {
    template: 'echo {% test @ = ok || { echo no such thing >&2; exit 3; } %}',
  })
  expect(bad.outcomes.get('t0')).toMatchObject({
    exitStatus: -2,
    message: expect.stringMatching(/exit status 3: no such thing/),
  })
  expect(bad.outcomes.get('t1')?.exitStatus).toBe(0)
  const much = await run(['abc'], { template: 'echo {% yes %}' })
  expect(much.outcomes.get('t0')).toMatchObject({
    exitStatus: -2,
    message: expect.stringMatching(/wrote more than 1048576 bytes/),
  })
})

test('a template that cannot be read is refused with the POST', async () => {
  const { post } = await startRunner()
  const { statusCode, body } = await post(
    `{"bundle":{"template":"{[::0]}"}}\n{"id":"a","args":"x","fence":1}\n`,
  )
  expect(statusCode).toBe(400)
  expect(await body.text()).toMatch(/step of a slice/)
})

test('a timeout ends the whole group, whatever it ignores', async () => {
  const { run } = await startRunner({ signalWait: 100 })
  const stubborn = `trap '' INT TERM; sh -c "trap '' INT TERM; sleep 30" & echo up; wait; sleep 30`
  const { outcomes, stdout } = await run([
    // Long enough for any shell to have set its traps.
    { args: stubborn, timeout: 4_000, id: 'stubborn' },
    { args: 'echo after', id: 'after' },
  ])
  expect(outcomes.get('stubborn')).toMatchObject({
    exitStatus: 137,
    interrupted: 'timeout',
    message: 'timeout after 4000 ms',
  })
  expect(stdout.get('stubborn')).toBe('up\n')
  expect(stdout.get('after')).toBe('after\n')
  await waitUntil(() => pidsWith('TASK_ID=stubborn').length === 0)
})

test('a timeout asks politely first', async () => {
  const { run } = await startRunner({ signalWait: 60_000 })
  const { outcomes } = await run([{ args: 'sleep 30', timeout: 200 }])
  expect(outcomes.get('t0')).toMatchObject({ exitStatus: 130, interrupted: 'timeout' })
})

test('a task that ends well on INT, though its time was over, has not succeeded', async () => {
  const { run } = await startRunner({ signalWait: 20_000 })
  const args = "trap 'exit 0' INT; echo up; while :; do sleep 0.05; done"
  const { outcomes } = await run([{ args, timeout: 4_000 }])
  expect(outcomes.get('t0')).toMatchObject({ exitStatus: 124, interrupted: 'timeout' })
})

test('what a task leaves in the background is ended, seen or hidden', async () => {
  const { run } = await startRunner({ numTasks: 1 })
  const hidden = join(folder(), 'hides.sh')
  writeFileSync(hidden, 'nohup sleep 77 >/dev/null 2>&1 &\n')
  await run([
    { args: 'sleep 77 & echo left', id: 'seen' },
    { args: `sh ${hidden}`, id: 'hidden' },
    'echo next',
  ])
  await waitUntil(() => pidsWith('TASK_ID=seen').length === 0)
  await waitUntil(() => pidsWith('TASK_ID=hidden').length === 0)
})

test('kill 0, and a task that kills its parent, harm nobody else', async () => {
  const { run } = await startRunner({ numTasks: 1 })
  const { outcomes } = await run(['kill 0; sleep 9', 'kill -9 $PPID; sleep 0.2; echo x', 'true'])
  expect([...outcomes.values()].map(({ exitStatus }) => exitStatus)).toEqual([143, 137, 0])
})

test('a cancelled task: waiting, running, unknown, of another claim', async () => {
  const { start, cancel, runner } = await startRunner({ numTasks: 1 })
  const tasks = [
    taskOf({ id: 'runs', args: 'sleep 30' }),
    taskOf({ id: 'waits', args: 'echo no' }),
    taskOf({ id: 'goes', args: 'echo yes' }),
  ]
  const answer = collect(await start(tasks), tasks)
  await waitUntil(() => runner.tasks[0]?.group !== null && runner.running === 1)
  expect(await cancel('runs', '?fence=9')).toBe(404)
  expect(await cancel('nobody')).toBe(404)
  expect(await cancel('waits')).toBe(200)
  expect(await cancel('runs', '?fence=1')).toBe(200)
  const { outcomes, stdout } = await answer
  expect(outcomes.get('runs')).toMatchObject({ exitStatus: -1, interrupted: 'cancelled' })
  expect(outcomes.get('waits')).toMatchObject({ exitStatus: -1, startTime: null })
  expect(stdout.get('goes')).toBe('yes\n')
})

test('a line without need of a shell does as a shell would have it do', async () => {
  const lines = [
    'true',
    'false',
    'test -d /proc',
    'pwd',
    'nosuchcommand a',
    '/nowhere/at/all',
    '/proc',
    'env printf %s-%s one two',
    `echo "it's" 'a "b"' '' $'x' x=y a:b,c@d%e`.replace("$'x'", "'$x *'"),
    `  printf '%s|' a'b c'"d e"  f ''\t`,
    'printf a\\nb',
    `printf "%s" 'two\nlines'`,
    `sh -c 'exit 7'`,
    `sh -c 'echo "$0" "$TASK_ID" "$PWD"; echo err >&2' name`,
    'cat',
    'exit 3',
    'cd /nowhere',
    'if',
    'unset PATH',
  ]
  const { run } = await startRunner({ numTasks: 1 })
  const { outcomes, stdout, stderr } = await run(lines, { cwd: '/' })
  const ours = lines.map((line, n) => {
    const id = `t${n}`
    return [line, outcomes.get(id)?.exitStatus, stdout.get(id) ?? '', plain(stderr.get(id) ?? '')]
  })
  const theirs = lines.map((line, n) => {
    const env = { ...process.env, TASK_ID: `t${n}` }
    const direct = spawnSync('/bin/sh', ['-c', line], {
      cwd: '/',
      env,
      encoding: 'utf8',
      input: '',
    })
    const status = direct.status ?? 128 + constants.signals[direct.signal as NodeJS.Signals]
    return [line, status, direct.stdout, plain(direct.stderr)]
  })
  expect(ours).toEqual(theirs)
})

/** What a shell says of its own, without the number of the line that it counts. */
function plain(words: string): string {
  return words.replaceAll(/(sh: )(?:line )?\d+: /g, '$1')
}

test.each([
  ['INT', 'a line of its own', ''],
  ['TERM', 'a line of its own', ''],
  ['TERM', 'behind a shell that dies of it', ' && echo not this'],
])('a program that ends in its own time on %s has that time: %s', async (signal, _, more) => {
  const { start, cancel, runner } = await startRunner({ numTasks: 1, signalWait: 3_000 })
  const program = `process.on('SIGINT', () => {}); process.on('SIG${signal}', () => setTimeout(() => { console.log('saved'); process.exit(3) }, 300)); setInterval(() => {}, 1000); console.log('up')`
  const tasks = [taskOf({ id: 'one', args: `node -e "${program}"${more}` })]
  let output = ''
  for await (const message of await start(tasks, { bundleWait: 1 })) {
    if (message.is !== 'stdout') continue
    output += message.data.toString()
    if (output === 'up\n') expect(await cancel('one')).toBe(200)
  }
  expect(output).toBe('up\nsaved\n')
  expect(runner.running).toBe(0)
})

test('PATH of a bundle is where the programs of its lines are looked for', async () => {
  const bin = folder()
  writeFileSync(join(bin, 'greet'), '#!/bin/sh\necho hello "$1"\n', { mode: 0o755 })
  const { run } = await startRunner()
  const { stdout } = await run(['greet you'], { env: { PATH: `${bin}:${process.env.PATH}` } })
  expect(stdout.get('t0')).toBe('hello you\n')
  expect((await run(['greet you'])).outcomes.get('t0')?.exitStatus).toBe(127)
})

test("when the client goes away its tasks end, and nobody else's", async () => {
  const { start, run, runner } = await startRunner({ numTasks: 1 })
  const gone = new AbortController()
  const tasks = [
    taskOf({ id: 'abandoned', args: 'sleep 30' }),
    taskOf({ id: 'never', args: 'sleep 30' }),
  ]
  const answer = collect(await start(tasks, {}, gone.signal), tasks).catch(() => 'cut')
  await waitUntil(() => runner.running === 1)
  gone.abort()
  expect(await answer).toBe('cut')
  const { stdout } = await run(['echo free'])
  expect(stdout.get('t0')).toBe('free\n')
  await waitUntil(() => pidsWith('TASK_ID=abandoned').length === 0)
  expect(runner.waiting).toBe(0)
})

test('a task that prints without end waits for who reads it, in little memory', async () => {
  const { start, runner } = await startRunner({ numTasks: 1 })
  const size = 200_000_000
  const answer = await start([taskOf(`head -c ${size} /dev/zero`)])
  await waitUntil(() => runner.running === 1)
  const held = await createMemoryMeter()
  const before = held()
  let maxHeld = 0
  // As long as nobody reads, it stands still when what is between is full.
  for (let [last, turns] = [0, 0]; turns < 20; turns++) {
    await sleep(10)
    const now = held() - before
    if (Math.abs(now - last) > 1_000_000) turns = 0
    last = now
    maxHeld = Math.max(maxHeld, now)
  }
  let [read, next] = [0, 0]
  for await (const message of answer) {
    if (message.is === 'stdout') read += message.data.length
    if (read < next) continue
    next += size / 20
    maxHeld = Math.max(maxHeld, held() - before)
  }
  expect(read).toBe(size)
  expect(maxHeld).toBeLessThan(size / 20)
})

test('a drain hands back what waits, and ends when what runs has ended', async () => {
  const { start, post, runner } = await startRunner({ numTasks: 1 })
  const file = join(folder(), 'go')
  const tasks = [
    taskOf({ id: 'runs', args: `until test -e ${file}; do sleep 0.02; done` }),
    taskOf({ id: 'waits', args: 'true', fence: 3 }),
  ]
  const answer = collect(await start(tasks), tasks)
  await waitUntil(() => runner.running === 1 && runner.waiting === 1)
  runner.drain()
  const refused = await post('')
  expect([refused.statusCode, refused.headers['x-manyhost-return']]).toEqual([503, '1'])
  await refused.body.dump()
  writeFileSync(file, '')
  const { outcomes, messages } = await answer
  expect([...outcomes.keys()]).toEqual(['runs'])
  expect(messages).toContainEqual({ is: 'returned', tasks: [{ id: 'waits', fence: 3 }] })
  await runner.drained
})

test('a stop interrupts what runs, and says so', async () => {
  const { start, runner } = await startRunner({ numTasks: 1 })
  const tasks = [taskOf('sleep 30')]
  const answer = collect(await start(tasks), tasks)
  await waitUntil(() => runner.running === 1)
  runner.stop()
  const { outcomes } = await answer
  expect(outcomes.get('t0')).toMatchObject({ interrupted: 'stopped' })
  await runner.drained
})

test('what is too long for an argument runs from a file, and is no variable; NUL is refused', async () => {
  const { run } = await startRunner()
  const { stdout, outcomes } = await run([
    `: ${'x'.repeat(1_000_000)}\necho "done$TASK_ARGS$TASK_COMMAND"`,
    'echo a\0b',
    'echo ok',
  ])
  expect(stdout.get('t0')).toBe('done\n')
  expect(outcomes.get('t1')).toMatchObject({
    exitStatus: -2,
    message: expect.stringMatching(/NUL/),
  })
  expect(stdout.get('t2')).toBe('ok\n')
})

test('lines that are no tasks are refused, the rest goes on', async () => {
  const { post } = await startRunner()
  const lines = [
    'nonsense',
    '{"id":"a","args":"echo a","fence":1}',
    '{"id":"b"}',
    '[]',
    '{"id":"c","args":"echo c","fence":1,"cores":-1}',
  ]
  const { body } = await post(`${lines.join('\n')}\n`)
  const { readRunnerMessages } = await import('../../../src/tasks/runner/protocol.ts')
  const { outcomes, messages } = await collect(readRunnerMessages(body), [])
  expect([...outcomes.keys()]).toEqual(['a'])
  const refused = messages.filter(({ is }) => is === 'refused')
  expect(refused.map((one) => (one.is === 'refused' ? one.index : -1))).toEqual([0, 2, 3, 4])
})

test('cores and memory: what never fits is -3, the rest waits its turn', async () => {
  const { run } = await startRunner({ numTasks: 4, cores: 2, memory: 1_000 })
  const { outcomes } = await run([
    { args: 'true', cores: 3, id: 'wide' },
    { args: 'true', memory: 2_000, id: 'fat' },
    { args: 'sleep 0.1', cores: 2, id: 'a' },
    { args: 'sleep 0.1', cores: 2, id: 'b' },
  ])
  expect(outcomes.get('wide')).toMatchObject({
    exitStatus: -3,
    message: 'it wants 3 cores, the runner has 2',
  })
  expect(outcomes.get('fat')?.exitStatus).toBe(-3)
  const [a, b] = [outcomes.get('a'), outcomes.get('b')]
  expect(b?.startTime).toBeGreaterThanOrEqual(a?.completionTime as number)
})

test('a rate limit spaces the starts', async () => {
  const { run } = await startRunner({ numTasks: 4, rate: 20 })
  const begun = now()
  await run(['true', 'true', 'true', 'true', 'true'])
  expect(now() - begun).toBeGreaterThanOrEqual(199)
})

test('outputs redirected to a file, and a folder to run in', async () => {
  const at = folder()
  const { run } = await startRunner({ numTasks: 1, output: join(at, 'out'), cwd: at })
  const { stdout, stderr } = await run(['echo one; echo e >&2', 'pwd > where; echo two'])
  expect(stdout.size).toBe(0)
  expect(stderr.get('t0')).toBe('e\n')
  await waitUntil(() => readFileSync(join(at, 'out'), 'utf8') === 'one\ntwo\n')
  expect(existsSync(join(at, 'where'))).toBe(true)
  const missing = await run(['true'], { cwd: join(at, 'none') })
  expect(missing.outcomes.get('t0')).toMatchObject({
    exitStatus: 127,
    message: expect.stringMatching(/cannot enter folder/),
  })
  const { stdout: there } = await run(['pwd >&2'], { cwd: '/' })
  expect(there.size).toBe(0)
  expect((await run(['pwd >&2'])).stderr.get('t0')).toBe(`${at}\n`)
})

test('without the token nothing runs', async () => {
  const { url } = await startRunner()
  const { statusCode } = await fetch(`${url}/tasks`, { method: 'POST', body: '' }).then((r) => ({
    statusCode: r.status,
  }))
  expect(statusCode).toBe(401)
  expect((await fetch(`${url}/health`)).status).toBe(200)
  expect(clientOf(url)).toBeDefined()
})

test('a task that is cut off while its reader is slow frees its slot at once', async () => {
  const { start, run, runner } = await startRunner({ numTasks: 1, signalWait: 60_000 })
  const gone = new AbortController()
  const answer = await start([taskOf({ id: 'floods', args: 'yes' })], {}, gone.signal)
  await answer.next()
  // Nobody reads: the pipes fill up and the task stands still.
  await waitUntil(() => runner.running === 1)
  await sleep(200)
  gone.abort()
  const { stdout } = await run(['echo free'])
  expect(stdout.get('t0')).toBe('free\n')
})

test('names that are no variables are refused, and the environment of a bundle is its own', async () => {
  const { run, post } = await startRunner({ numTasks: 1 })
  expect((await run(['echo $A'], { env: { A: "it's" } })).stdout.get('t0')).toBe("it's\n")
  expect((await run(['echo "[$A]"'])).stdout.get('t0')).toBe('[]\n')
  const { statusCode, body } = await post('{"bundle":{"env":{"A; rm -rf x":"1"}}}\n')
  expect([statusCode, await body.text()]).toEqual([
    400,
    expect.stringMatching(/no name of a variable/),
  ])
})

test('an environment that is too large for a process is an outcome, not a crash', async () => {
  const { run } = await startRunner({ numTasks: 1 })
  const env = Object.fromEntries(
    Array.from({ length: 40 }, (_, n) => [`BIG${n}`, 'x'.repeat(110_000)]),
  )
  const { outcomes, stderr } = await run(['cat /dev/null'], { env })
  expect(outcomes.get('t0')?.exitStatus).toBe(126)
  expect(stderr.get('t0')).toMatch(/too long/i)
  expect((await run(['true'])).outcomes.get('t0')?.exitStatus).toBe(0)
})
