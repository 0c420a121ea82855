/** `manyhost tasks wait`. */

import { sleep } from '../../core/time.ts'
import type { Task } from '../../tasks/task.ts'
import { exitOf, TASK_EXIT } from '../exit.ts'
import { untilInterrupted } from '../interrupt.ts'
import { line, write } from '../terminal.ts'
import { formatOf, type OneFlags } from './info.ts'
import { one } from './print.ts'
import { withStore } from './store.ts'

interface WaitFlags extends OneFlags {
  readonly interval?: number
  readonly info?: boolean
  readonly status?: boolean
  readonly return?: boolean
}

/** In ms. A file is looked at more often than the ancestor's 5 s: a look costs some 50 us. */
const INTERVAL = 200

export async function run(
  [id = '']: readonly (string | undefined)[],
  flags: WaitFlags,
): Promise<number> {
  return withStore(flags, false, async (store) => {
    const { signal, code } = untilInterrupted('tasks')
    let task: Task = await store.get(id)
    for (;;) {
      // The outcome of a task that was tried again is that of its last attempt.
      if (task.nextId !== null) task = await store.get(task.nextId)
      else if (task.completionTime !== null) break
      else {
        await sleep(flags.interval ?? INTERVAL, signal).catch(() => {})
        if (signal.aborted) return code()
        task = await store.get(task.id)
      }
    }
    if (flags.status) await line(String(task.exitStatus))
    if (flags.info || flags.format || flags.json || flags.yaml) {
      await write(one(task, formatOf(flags)))
    }
    return flags.return ? exitOf(task.exitStatus ?? 1) : TASK_EXIT.ok.number
  })
}
