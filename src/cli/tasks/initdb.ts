/** `manyhost tasks initdb`: creates and maintains the store. */
import { TASK_EXIT } from '../exit.ts'
import { writeLine } from '../terminal.ts'
import { askYesOrNo, type StoreFlags, withStore } from './store.ts'

interface InitdbFlags extends StoreFlags {
  readonly vacuum?: boolean
  readonly backup?: string
  readonly rotate?: boolean
  readonly truncate?: boolean
  readonly yes?: boolean
}

export async function run(_: readonly unknown[], flags: InitdbFlags): Promise<number> {
  return withStore(flags, true, async (store) => {
    await writeLine(store.name)
    // The backup and the rotation come before the removal of tasks.
    if (flags.backup !== undefined) {
      await store.backup(flags.backup)
      await writeLine(`copied to ${flags.backup}`)
    }
    if (flags.rotate) {
      const { moved, partition } = await store.rotate()
      await writeLine(`${moved} tasks moved to partition ${partition}`)
    }
    if (flags.truncate) {
      const count = await store.count()
      if (!flags.yes && !(await askYesOrNo(`remove all ${count} tasks?`, '-y')))
        return TASK_EXIT.failure.number
      await writeLine(`${await store.truncate()} tasks removed`)
    }
    if (flags.vacuum) {
      await store.vacuum()
      await writeLine('vacuumed')
    }
    return TASK_EXIT.ok.number
  })
}
