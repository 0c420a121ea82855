/** `manyhost tasks wait`: waits until a task has its outcome. */
import { sleep } from '../../core/time.ts'
import type { Task } from '../../tasks/model/task.ts'
import { TASK_EXIT, toExitStatus } from '../exit.ts'
import { abortOnInterrupt } from '../interrupt.ts'
import { write, writeLine } from '../terminal.ts'
import { formatTask } from './format-tasks.ts'
import { chooseFormat, type OneTaskFlags } from './info.ts'
import { withStore } from './store.ts'

interface WaitFlags extends OneTaskFlags {
  readonly interval?: number
  readonly info?: boolean
  readonly status?: boolean
  readonly return?: boolean
}

/** HyperShell polls every 5 s. A poll of a file takes about 50 us, so this is more often. */
const POLL_INTERVAL_MS = 200

export async function run(
  [id = '']: readonly (string | undefined)[],
  flags: WaitFlags,
): Promise<number> {
  return withStore(flags, false, async (store) => {
    const { signal, code } = abortOnInterrupt('tasks')
    let task: Task = await store.get(id)
    for (;;) {
      // A task that was tried again has the outcome of its last attempt.
      if (task.nextId !== null) task = await store.get(task.nextId)
      else if (task.completionTime !== null) break
      else {
        await sleep(flags.interval ?? POLL_INTERVAL_MS, signal).catch(() => {})
        if (signal.aborted) return code()
        task = await store.get(task.id)
      }
    }
    if (flags.status) await writeLine(String(task.exitStatus))
    if (flags.info || flags.format || flags.json || flags.yaml) {
      await write(formatTask(task, chooseFormat(flags)))
    }
    return flags.return ? toExitStatus(task.exitStatus ?? 1) : TASK_EXIT.ok.number
  })
}
