/** `type: pull` in a fleet file: a worker that is a shell with curl serves requests to the virtual URL. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { get } from 'node:http'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { deriveServiceId } from '../../providers/pull/service-id.ts'
import { waitUntil } from '../help.ts'
import { createFolder, startProgram } from './help.ts'

const hasCurl = spawnSync('curl', ['--version']).status === 0
if (!hasCurl) console.warn('!!! curl is not on the PATH: workers in plain shell are NOT tested')

const TOKEN = 'lab-secret'

/** Checks in, waits for one job, answers it; again and again. Its token goes by a file. */
const WORKER = `
printf 'Authorization: Bearer %s\\n' "$TOKEN" > auth
call() { curl -sS --unix-socket "$HUB" -H @auth -H "X-Manyhost-Worker: $NAME" "$@"; }
call -X PATCH "$SERVICE" || exit 1
while :; do
  job=$(call -D head -H 'Prefer: wait=30' "$SERVICE/next") || exit 1
  [ -n "$job" ] || continue
  id=$(printf '%s' "$job" | sed -n 's/.*"data":{[^{]*"id":"\\([0-9a-f-]*\\)".*/\\1/p')
  text=$(printf '%s' "$job" | sed -n 's/.*"parameters":{"text":"\\([^"]*\\)".*/\\1/p')
  lease=$(sed -n 's/^x-manyhost-lease: *\\([^[:space:]]*\\).*/\\1/Ip' head)
  words=$(printf '%s' "$text" | wc -w)
  call -o done -X PATCH "\${SERVICE%/services/*}/jobs/$id" -H 'Content-Type: application/json' \\
    -H "X-Manyhost-Lease: $lease" -d "{\\"status\\":\\"COMPLETED\\",\\"results\\":{\\"words\\":$((words))}}"
done`

/** The status of an answer over a unix socket; 0 for none. */
function status(socketPath: string, path: string): Promise<number> {
  return new Promise((resolve) => {
    const asked = get({ socketPath, path, host: 'localhost' }, (answer) => {
      answer.resume()
      resolve(answer.statusCode ?? 0)
    })
    asked.once('error', () => resolve(0))
  })
}

test.skipIf(!hasCurl)(
  'serve: a request is a job, a shell with curl does it, its result is the answer',
  { timeout: 120_000 },
  async () => {
    const hub = join(createFolder(), 'hub.sock')
    const cwd = createFolder({
      'fleet.yaml': `services:
  http://words:
    provider: lab
    size: 1
providers:
  lab:
    type: pull
    listen: unix:${hub}
    token: "\${LAB_TOKEN}"
    store: jobs.db
    services:
      http://words:
        jobRegistrationSchema: { type: object, properties: { text: { type: string } }, required: [text] }
gateway: { listen: 127.0.0.1:0 }
admin: { listen: 127.0.0.1:0 }
`,
    })
    const served = startProgram(['serve', '--log', 'json'], { cwd, env: { LAB_TOKEN: TOKEN } })
    const [line] = await served.waitForOutput(/^.*"msg":"serving .*$/m)
    const { gateway, metrics } = JSON.parse(line) as { gateway: string; metrics: string }
    const service = `/services/${deriveServiceId('http://words')}`
    await waitUntil(
      async () => (await status(hub, service)) === 401,
      'it listens to those with a token',
    )

    // The request is there first: it waits for a worker.
    const ask = async (text: unknown): Promise<{ status: number; body: unknown }> => {
      const answer = await fetch(new URL('words', gateway), {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ text }),
      })
      return { status: answer.status, body: await answer.json() }
    }
    const first = ask('and now three')
    const worker = spawn('sh', ['-c', WORKER], {
      cwd: createFolder(),
      env: {
        ...process.env,
        HUB: hub,
        SERVICE: `http://localhost${service}`,
        TOKEN,
        NAME: 'shell',
      },
      stdio: 'ignore',
      detached: true,
    })
    // With what it has started: curl waits for half a minute.
    onTestFinished(() => {
      if (worker.exitCode === null) process.kill(-(worker.pid as number), 'SIGKILL')
    })
    expect(await first).toEqual({ status: 200, body: { words: 3 } })
    expect((await ask('two words')).body).toEqual({ words: 2 })
    expect((await ask(7)).status).toBe(422)
    const figures = await (await fetch(metrics)).text()
    expect(figures).toMatch(/manyhost_pull_ended_total\{.*status="COMPLETED".*\} 2/)
    expect(served.stdout() + served.stderr()).not.toContain(TOKEN)

    served.process.kill('SIGTERM')
    expect((await served.ended).code).toBe(0)
    // Its hub has gone, which curl says.
    if (worker.exitCode === null) await once(worker, 'exit')
    expect(worker.exitCode).toBe(1)
  },
)
