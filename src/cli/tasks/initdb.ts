/** `manyhost tasks initdb`. */
import { TASK_EXIT } from '../exit.ts'
import { line } from '../terminal.ts'
import { type StoreFlags, sure, withStore } from './store.ts'

interface InitFlags extends StoreFlags {
  readonly vacuum?: boolean
  readonly backup?: string
  readonly rotate?: boolean
  readonly truncate?: boolean
  readonly yes?: boolean
}

export async function run(_: readonly unknown[], flags: InitFlags): Promise<number> {
  return withStore(flags, true, async (store) => {
    await line(store.name)
    // First what keeps, then what removes.
    if (flags.backup !== undefined) {
      await store.backup(flags.backup)
      await line(`copied to ${flags.backup}`)
    }
    if (flags.rotate) {
      const { moved, partition } = await store.rotate()
      await line(`${moved} tasks moved to partition ${partition}`)
    }
    if (flags.truncate) {
      const count = await store.count()
      if (!flags.yes && !(await sure(`remove all ${count} tasks?`, '-y')))
        return TASK_EXIT.failure.number
      await line(`${await store.truncate()} tasks removed`)
    }
    if (flags.vacuum) {
      await store.vacuum()
      await line('vacuumed')
    }
    return TASK_EXIT.ok.number
  })
}
