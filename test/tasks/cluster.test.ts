/** What a cluster of runners does by its options: how long there are runners, and how many; what tasks find and leave. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished } from 'vitest'
import { processes } from '../../providers/process/index.ts'
import { inProcess } from '../../providers/testing/index.ts'
import { SessionCore } from '../../src/session/session.ts'
import {
  type ClusterRunOptions,
  openStore,
  runCluster,
  type TaskResult,
  type TaskRun,
} from '../../src/tasks.ts'
import { createFolder } from '../cli/help.ts'
import { waitUntil } from '../help.ts'

async function resultsOf(run: TaskRun): Promise<TaskResult[]> {
  const results: TaskResult[] = []
  for await (const one of run) results.push(one)
  return results
}

describe('runners', () => {
  /** Of a cluster that goes on, looked after at every moment. */
  async function serving(options: ClusterRunOptions) {
    const session = new SessionCore({ provider: processes(), tickInterval: 20 })
    onTestFinished(() => session.close({ force: true }))
    const store = await openStore(':memory:')
    onTestFinished(() => store.close())
    const run = runCluster(undefined, { session, store, forever: true, ...options })
    await run.ready
    return {
      run,
      store,
      instances: () => session.clusters[0]?.instances.length ?? 0,
      async end() {
        run.stop()
        await run
      },
    }
  }

  it('that had nothing to do for a client timeout are ended, and started when there is work', async () => {
    const { store, instances, end } = await serving({ clientTimeout: 50, runners: 2 })
    for (let turn = 0; turn < 2; turn++) {
      // What runs for longer than that is work.
      const [id = ''] = await store.add([{ args: 'sleep 0.5' }])
      await waitUntil(async () => (await store.get(id)).exitStatus !== null)
      expect(await store.get(id)).toMatchObject({ exitStatus: 0, fence: 1 })
      await waitUntil(() => instances() === 0)
    }
    await end()
  })

  it('become more with the work, by the period, and none when there is none', async () => {
    const go = join(createFolder(), 'go')
    const { store, instances, end } = await serving({
      autoscaling: 'dynamic',
      period: 50,
      maxSize: 3,
      factor: 0.5,
    })
    await store.add(Array.from({ length: 3 }, () => ({ args: 'sleep 0.05' })))
    await waitUntil(async () => (await store.counts()).succeeded === 3)
    // As long as these wait there is more to do than one can.
    const waits = `until test -e ${go}; do sleep 0.02; done`
    await store.add(Array.from({ length: 20 }, () => ({ args: waits })))
    await waitUntil(() => instances() === 3)
    writeFileSync(go, '')
    await waitUntil(() => instances() === 0)
    expect(await store.counts()).toMatchObject({ succeeded: 23, total: 23 })
    await end()
  })
})

describe('a task', () => {
  it('finds in its environment each field of its row that is known, and each of its tags', async () => {
    const store = await openStore(':memory:')
    onTestFinished(() => store.close())
    const found: Record<string, string>[] = [{}, {}]
    const task = {
      args: 'env; test $TASK_ATTEMPT = 2',
      group: 3,
      cores: 1,
      memory: 4_096,
      timeout: 600_000,
      tag: { site: 'x', 'run.no-1': 7, none: null },
    }
    const run = runCluster([task], {
      store,
      maxRetries: 1,
      cwd: '/tmp',
      onOutput({ attempt }, _, chunk) {
        for (const line of Buffer.from(chunk).toString().split('\n')) {
          const [, name = '', value = ''] = /^TASK_(\w+)=(.*)$/.exec(line) ?? []
          if (name) (found[attempt - 1] as Record<string, string>)[name] = value
        }
      },
    })
    const [first, second] = await resultsOf(run)
    const last = await store.get(second?.id as string)
    expect(found[1]).toEqual({
      ID: last.id,
      GROUP: '3',
      ARGS: task.args,
      COMMAND: task.args,
      SUBMIT_ID: last.submitId,
      SUBMIT_TIME: new Date(last.submitTime).toISOString(),
      SUBMIT_HOST: last.submitHost,
      CORES: '1',
      MEMORY: '4096',
      TIMEOUT: '600',
      SERVER_ID: last.serverId,
      SERVER_HOST: last.serverHost,
      SCHEDULE_TIME: new Date(last.scheduleTime as number).toISOString(),
      CLIENT_ID: last.clientId,
      CLIENT_HOST: last.clientHost,
      ATTEMPT: '2',
      RETRIED: 'false',
      PREVIOUS_ID: first?.id,
      FENCE: '1',
      SLOT: '1',
      CWD: '/tmp',
      TAG_SITE: 'x',
      TAG_RUN_NO_1: '7',
    })
    expect(found[0]).not.toHaveProperty('PREVIOUS_ID')
  })

  it('leaves what it used, at most and each second, beside the store', async () => {
    const at = createFolder()
    const outputs = join(at, 'outputs')
    const store = await openStore(join(at, 'tasks.db'))
    onTestFinished(() => store.close())
    const run = runCluster([`until test -e ${at}/go; do :; done`], { store, monitor: true })
    const files = (): string[] =>
      existsSync(outputs)
        ? readdirSync(outputs, { recursive: true, encoding: 'utf8' }).filter((one) =>
            one.endsWith('.csv'),
          )
        : []
    const text = (): string => readFileSync(join(outputs, files()[0] as string), 'utf8')
    await waitUntil(() => files().length === 1 && text().split('\n').length > 2)
    writeFileSync(join(at, 'go'), '')
    const [result] = await resultsOf(run)
    const kept = await store.get(result?.id as string)
    expect(kept.csvpath).toBe(join(outputs, files()[0] as string))
    expect(text()).toMatch(/^time,cores,memory\n(\d+,[\d.]+,\d+\n)+$/)
    expect(kept.memoryMax).toBeGreaterThan(0)
    expect(kept.coresMax).toBeGreaterThanOrEqual(0)
    // It is not captured unless that is asked for.
    expect(kept).toMatchObject({ outpath: null, errpath: null })
  })

  it('that is a request has its time, too: the shorter of its own and that of all', async () => {
    const provider = inProcess(() => {}, { style: 'node' })
    const session = new SessionCore({ provider })
    onTestFinished(() => session.close({ force: true }))
    session.startup({ url: 'http://slow', concurrency: 4, initSize: 1 })
    const late = { exitStatus: 504, message: expect.stringMatching(/deadline|300 ms/) }
    for (const [own, taskTimeout] of [
      ['1h', 300],
      ['300ms', 3_600_000],
      ['300ms', 0],
    ] as const) {
      const lines = [`GET http://slow/x # MANYHOST: timeout:${own}`]
      const run = runCluster(lines, { session, kind: 'request', inMemory: true, taskTimeout })
      expect(await resultsOf(run)).toMatchObject([late])
    }
  })
})
