/** `manyhost tasks list`. */
import type { Task } from '../../tasks/task.ts'
import { TASK_EXIT } from '../exit.ts'
import { line, printable, write } from '../terminal.ts'
import { cell, type Format, fieldsOf, printer } from './print.ts'
import { type FilterFlags, filterOf, orderOf, type StoreFlags, withStore } from './store.ts'

interface ListFlags extends StoreFlags, FilterFlags {
  readonly offset?: number
  readonly format?: Format
  readonly json?: boolean
  readonly csv?: boolean
  readonly delimiter?: string
  readonly count?: boolean
  readonly fields?: boolean
  readonly tagKeys?: boolean
  readonly tagValues?: string
}

/** Tasks of one write, and of one table's widths. */
const PART = 500

export async function run([given]: readonly unknown[], flags: ListFlags): Promise<number> {
  const names = (given ?? []) as readonly string[]
  const fields = fieldsOf(names)
  if (flags.fields) {
    await line(fieldsOf([]).join(' '))
    return TASK_EXIT.ok.number
  }
  return withStore(flags, false, async (store) => {
    if (flags.tagKeys || flags.tagValues !== undefined) {
      const found = flags.tagKeys
        ? await store.tagKeys()
        : await store.tagValues(flags.tagValues as string)
      // A number and its text are written alike, and found alike.
      const texts = new Set(found.map((one) => printable(cell(one ?? 'null'))))
      for (const text of texts) await line(text)
      return TASK_EXIT.ok.number
    }
    const filter = filterOf(flags)
    if (flags.count) {
      const count = await store.count(filter)
      await line(String(Math.min(count, flags.limit ?? count)))
      return TASK_EXIT.ok.number
    }
    const format =
      flags.format ??
      (flags.json ? 'json' : flags.csv ? 'csv' : names.length > 0 ? 'plain' : 'normal')
    const out = printer(format, fields, flags.delimiter)
    const tasks = store.list(filter, {
      ...orderOf(flags),
      ...(flags.offset !== undefined && { offset: flags.offset }),
    })
    let part: Task[] = []
    let isFirst = true
    let isBegun = false
    const flush = async (): Promise<void> => {
      if (part.length === 0) return
      await write(out.rows(part, isFirst))
      isFirst = false
      part = []
    }
    for await (const task of tasks) {
      // A wrong filter is told by the first step: nothing is printed before.
      if (!isBegun) await write(out.head())
      isBegun = true
      part.push(task)
      if (part.length >= PART) await flush()
    }
    if (!isBegun) await write(out.head())
    await flush()
    await write(out.tail(isFirst))
    return TASK_EXIT.ok.number
  })
}
