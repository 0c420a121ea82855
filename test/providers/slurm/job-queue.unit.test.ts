/** What is made of Slurm's queue, with a false clock and a false Slurm. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import {
  isEndedState,
  isLiveState,
  type SlurmController,
  type SlurmJob,
} from '../../../providers/slurm/controller.ts'
import { SlurmJobQueue } from '../../../providers/slurm/job-queue.ts'
import { parseJobState } from '../../../providers/slurm/rest.ts'
import { createLatch } from '../../help.ts'

/** Between two looks at jobs that run, in ms. */
const INTERVAL = 2_000

class Slurm implements SlurmController {
  /** State and reason, for people. */
  readonly states = new Map<string, string>()
  readonly cancels: string[][] = []
  isAway = false
  onCancel: (ids: readonly string[]) => void | Promise<void> = () => {}

  submit(): Promise<string> {
    throw new Error('not asked for')
  }

  async listJobs(): Promise<readonly SlurmJob[]> {
    if (this.isAway) throw new Error('away')
    return [...this.states].map(([id, said]) => {
      const [state = '', reason = 'None'] = said.split(' ')
      return { id, name: id, state, reason, comment: '' }
    })
  }

  async cancel(ids: readonly string[]): Promise<void> {
    this.cancels.push([...ids])
    await this.onCancel(ids)
  }
}

let cluster: Slurm
let queue: SlurmJobQueue
beforeEach(() => {
  vi.useFakeTimers()
  cluster = new Slurm()
  queue = new SlurmJobQueue(cluster, INTERVAL)
})
afterEach(() => {
  queue.close()
  vi.useRealTimers()
})

/** What a promise has become of by now. */
function settled<T>(promise: Promise<T>): { value?: T } {
  const seen: { value?: T } = {}
  void promise.then((value) => {
    seen.value = value
  })
  return seen
}

test('a COMPLETING job is not over: some of its processes may still run', async () => {
  cluster.states.set('7', 'RUNNING')
  cluster.onCancel = () => void cluster.states.set('7', 'COMPLETING')
  const ended = settled(queue.watch('7').cancel())
  await vi.advanceTimersByTimeAsync(60_000)
  expect(ended).toEqual({})
  cluster.states.set('7', 'CANCELLED')
  await vi.advanceTimersByTimeAsync(200)
  expect(ended).toEqual({ value: true })
  // Once: what completes need not be told again.
  expect(cluster.cancels).toEqual([['7']])
})

test('a job that does not end within 90 s is reported, and cancelled again', async () => {
  cluster.states.set('7', 'COMPLETING')
  const ended = settled(queue.watch('7').cancel())
  await vi.advanceTimersByTimeAsync(89_000)
  expect(ended).toEqual({})
  await vi.advanceTimersByTimeAsync(2_000)
  expect(ended).toEqual({ value: false })
  // Its node has failed, and it was put back into the queue.
  cluster.states.set('7', 'PENDING')
  await vi.advanceTimersByTimeAsync(INTERVAL)
  expect(cluster.cancels).toEqual([['7'], ['7']])
})

test('if Slurm does not answer, the wait is short', async () => {
  cluster.states.set('7', 'RUNNING')
  cluster.isAway = true
  cluster.onCancel = () => Promise.reject(new Error('away'))
  const ended = settled(queue.watch('7').cancel())
  await vi.advanceTimersByTimeAsync(7_500)
  expect(ended).toEqual({})
  await vi.advanceTimersByTimeAsync(1_000)
  expect(ended).toEqual({ value: false })
  cluster.isAway = false
  cluster.onCancel = (ids) => {
    for (const id of ids) cluster.states.set(id, 'CANCELLED')
  }
  await vi.advanceTimersByTimeAsync(2 * INTERVAL)
  expect(cluster.cancels.length).toBe(2)
})

test('a job that ends while another is being cancelled is cancelled right after that', async () => {
  cluster.states.set('7', 'COMPLETING').set('8', 'COMPLETING')
  const first = createLatch()
  cluster.onCancel = () => first.promise
  void queue.watch('7').cancel()
  await vi.advanceTimersByTimeAsync(0)
  void queue.watch('8').cancel()
  await vi.advanceTimersByTimeAsync(0)
  expect(cluster.cancels).toEqual([['7']])
  first.open()
  await vi.advanceTimersByTimeAsync(0)
  expect(cluster.cancels).toEqual([['7'], ['8']])
})

test('jobs that end in the same moment are cancelled by one call', async () => {
  cluster.states.set('7', 'COMPLETING').set('8', 'COMPLETING')
  void queue.watch('7').cancel()
  void queue.watch('8').cancel()
  await vi.advanceTimersByTimeAsync(0)
  expect(cluster.cancels).toEqual([['7', '8']])
})

test('two cancels of one job wait for the same end', async () => {
  cluster.states.set('7', 'COMPLETING')
  const job = queue.watch('7')
  const both = [settled(job.cancel()), settled(job.cancel())]
  await vi.advanceTimersByTimeAsync(1_000)
  expect(both).toEqual([{}, {}])
  cluster.states.delete('7')
  await vi.advanceTimersByTimeAsync(1_000)
  expect(both).toEqual([{ value: true }, { value: true }])
})

test('the reason of an end is the final state, not COMPLETING', async () => {
  cluster.states.set('7', 'COMPLETING NonZeroExitCode')
  const job = queue.watch('7')
  const seen = settled(job.findEnd())
  await vi.advanceTimersByTimeAsync(150)
  expect(seen).toEqual({})
  expect(await job.over).toEqual({ state: 'COMPLETING', reason: 'NonZeroExitCode' })
  cluster.states.set('7', 'OUT_OF_MEMORY OutOfMemory')
  await vi.advanceTimersByTimeAsync(200)
  expect(seen.value).toEqual({ state: 'OUT_OF_MEMORY', reason: 'OutOfMemory' })
})

test('a running job has no end', async () => {
  cluster.states.set('7', 'RUNNING')
  const seen = settled(queue.watch('7').findEnd())
  await vi.advanceTimersByTimeAsync(500)
  expect(seen).toEqual({ value: undefined })
})

test('a job that is pending after it ran is over', async () => {
  cluster.states.set('7', 'RUNNING')
  const job = queue.watch('7')
  await vi.advanceTimersByTimeAsync(INTERVAL)
  cluster.states.set('7', 'PENDING BeginTime')
  await vi.advanceTimersByTimeAsync(INTERVAL)
  expect(await job.over).toEqual({ state: 'PENDING', reason: 'BeginTime' })
})

test('a requeued job that is held is cancelled: it has not ended', async () => {
  cluster.states.set('7', 'REQUEUE_HOLD')
  cluster.onCancel = () => void cluster.states.set('7', 'CANCELLED')
  const ended = settled(queue.watch('7').cancel())
  await vi.advanceTimersByTimeAsync(500)
  expect(ended).toEqual({ value: true })
})

test('a job that one look does not show is not gone yet', async () => {
  const job = queue.watch('7')
  const over = settled(job.over)
  await vi.advanceTimersByTimeAsync(2 * INTERVAL)
  expect(over).toEqual({})
  await vi.advanceTimersByTimeAsync(INTERVAL)
  expect(over.value?.state).toBe('GONE')
})

test('each state is of one kind, or of none', () => {
  for (const state of ['PENDING', 'RUNNING', 'COMPLETING', 'REQUEUED', 'CANCELLED', 'NEW_ONE']) {
    expect(isLiveState(state) && isEndedState(state)).toBe(false)
  }
  expect(isEndedState('NEW_ONE')).toBe(false)
})

test('slurmrestd says one state or several', () => {
  expect(parseJobState('RUNNING')).toBe('RUNNING')
  expect(parseJobState(['RUNNING'])).toBe('RUNNING')
  expect(parseJobState(['CANCELLED', 'COMPLETING'])).toBe('COMPLETING')
  expect(parseJobState(['RUNNING', 'CONFIGURING'])).toBe('CONFIGURING')
})
