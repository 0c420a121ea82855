/** `manyhost tasks list`: lists or counts tasks. */
import type { Task } from '../../tasks/model/task.ts'
import { TASK_EXIT } from '../exit.ts'
import { printable, write, writeLine } from '../terminal.ts'
import { checkFields, createTaskFormatter, formatCell, type TaskFormat } from './format-tasks.ts'
import { type FilterFlags, type StoreFlags, toTaskFilter, toTaskOrder, withStore } from './store.ts'

interface ListFlags extends StoreFlags, FilterFlags {
  readonly offset?: number
  readonly format?: TaskFormat
  readonly json?: boolean
  readonly csv?: boolean
  readonly delimiter?: string
  readonly count?: boolean
  readonly fields?: boolean
  readonly tagKeys?: boolean
  readonly tagValues?: string
}

/** How many tasks are formatted and written together. Columns of a table have one width within such a part. */
const ROWS_PER_WRITE = 500

export async function run([given]: readonly unknown[], flags: ListFlags): Promise<number> {
  const names = (given ?? []) as readonly string[]
  const fields = checkFields(names)
  if (flags.fields) {
    await writeLine(checkFields([]).join(' '))
    return TASK_EXIT.ok.number
  }
  return withStore(flags, false, async (store) => {
    if (flags.tagKeys || flags.tagValues !== undefined) {
      const found = flags.tagKeys
        ? await store.tagKeys()
        : await store.tagValues(flags.tagValues as string)
      // The number 1 and the text '1' are printed the same and found the same, so they are listed once.
      const texts = new Set(found.map((one) => printable(formatCell(one ?? 'null'))))
      for (const text of texts) await writeLine(text)
      return TASK_EXIT.ok.number
    }
    const filter = toTaskFilter(flags)
    if (flags.count) {
      const count = await store.count(filter)
      await writeLine(String(Math.min(count, flags.limit ?? count)))
      return TASK_EXIT.ok.number
    }
    const format =
      flags.format ??
      (flags.json ? 'json' : flags.csv ? 'csv' : names.length > 0 ? 'plain' : 'normal')
    const out = createTaskFormatter(format, fields, flags.delimiter)
    const tasks = store.list(filter, {
      ...toTaskOrder(flags),
      ...(flags.offset !== undefined && { offset: flags.offset }),
    })
    let part: Task[] = []
    let isFirst = true
    let isBegun = false
    const flush = async (): Promise<void> => {
      if (part.length === 0) return
      await write(out.formatRows(part, isFirst))
      isFirst = false
      part = []
    }
    for await (const task of tasks) {
      // The first step throws for a wrong filter, so nothing is printed before it.
      if (!isBegun) await write(out.formatHead())
      isBegun = true
      part.push(task)
      if (part.length >= ROWS_PER_WRITE) await flush()
    }
    if (!isBegun) await write(out.formatHead())
    await flush()
    await write(out.formatTail(isFirst))
    return TASK_EXIT.ok.number
  })
}
