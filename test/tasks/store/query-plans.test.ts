/** How SQLite goes about what the store asks: never through all tasks. */
import { expect, it } from 'vitest'
import { SQL_DIALECTS } from '../../../src/store/dialect.ts'
import { createQueryBuilder } from '../../../src/store/engine.ts'
import { parseTaskFilter, type TaskFilter } from '../../../src/tasks/store/filter.ts'
import { openStore } from '../../../src/tasks/store/open.ts'
import { prepareStatements } from '../../../src/tasks/store/prepared-statements.ts'
import {
  selectCount,
  selectKeptCounts,
  selectPage,
  selectSorted,
} from '../../../src/tasks/store/queries.ts'
import type { StoreTables } from '../../../src/tasks/store/tables.ts'

async function planner() {
  const store = await openStore(':memory:')
  const db = createQueryBuilder<StoreTables>('sqlite')
  const hot = prepareStatements(SQL_DIALECTS.sqlite)
  const plan = async (query: {
    sql: string
    parameters: readonly unknown[]
  }): Promise<string[]> => {
    const rows = await store.statement(`EXPLAIN QUERY PLAN ${query.sql}`, ...query.parameters)
    return rows.map(({ detail }) => String(detail))
  }
  return { store, db, hot, plan }
}

/** Going through the table, or through an index without a place to begin. */
const SCANS = /^SCAN (task|task_tag)\b/

it('claims, confirms, and keeps outcomes by index', async () => {
  const { store, hot, plan } = await planner()
  const statements = {
    fresh: hot.fresh('b', 0, 'shell', 100),
    failed: hot.failed({ batch: 'b', group: 0, attempt: 1 }, 'request', 100),
    schedule: hot.schedule(0, 's', 'h', [1]),
    link: hot.link([[1, 'x']]),
    complete: hot.complete([[]]),
    completeWhole: hot.complete([Array.from({ length: 15 }, () => 1)]),
    confirm: hot.confirm('c', 'h', []),
    standing: hot.standing(['x']),
    alive: hot.alive('s'),
  }
  for (const [name, statement] of Object.entries(statements)) {
    const steps = await plan(statement)
    expect(
      steps.filter((step) => SCANS.test(step)),
      `${name}: ${steps.join('; ')}`,
    ).toEqual([])
    // Nor by state, which as many as are at work have.
    if (['complete', 'completeWhole', 'confirm'].includes(name))
      expect(steps.join()).toContain('task_id (id=?)')
    expect(steps.join(), name).not.toMatch(/fresh|failed/.test(name) ? /TEMP B-TREE/ : /never/)
  }
  // Past all of the other kind, be they millions.
  const fresh = 'SEARCH task USING INDEX task_new (batch=? AND group=? AND <expr>=?)'
  const failed =
    'SEARCH task USING INDEX task_failed (batch=? AND group=? AND attempt=? AND <expr>=?)'
  expect(await plan(statements.fresh)).toEqual([fresh])
  expect(await plan(statements.failed)).toEqual([failed])
  await store.close()
})

it('lists and counts by index', async () => {
  const { store, db, plan } = await planner()
  const filters: TaskFilter[] = [
    { where: ['exit_status != 0'] },
    { only: ['remaining'] },
    { only: ['succeeded'], group: 1 },
    { group: 1 },
    { tags: ['a:1'] },
    { tags: ['a:1', 'b'], only: ['failed'] },
    { where: ['id == x'] },
    { only: ['failed'], where: ['duration > 5'] },
  ]
  for (const filter of filters) {
    const read = parseTaskFilter(filter)
    for (const after of [undefined, 5]) {
      for (const asked of [{}, { isDescending: true }, { among: [1, 2, 3] }]) {
        const steps = await plan(selectPage(db, read, { after, limit: 100, ...asked }))
        expect(
          steps.filter((step) => SCANS.test(step)),
          JSON.stringify([filter, steps]),
        ).toEqual([])
      }
    }
    const steps = await plan(selectCount(db, read))
    expect(
      steps.filter((step) => SCANS.test(step)),
      JSON.stringify([filter, steps]),
    ).toEqual([])
  }
  const counts = await plan(selectKeptCounts(db, parseTaskFilter({ only: ['failed'] })))
  expect(counts.join()).not.toMatch(/\btask\b/)
  // All of them, in order: along the table itself, no further than the page goes.
  const all = await plan(selectPage(db, parseTaskFilter({}), { limit: 100 }))
  expect(all.filter((step) => /^SCAN task/.test(step))).toEqual(['SCAN task'])
  const last = await plan(
    selectSorted(db, parseTaskFilter({}), 'completion_time', true, 100, 'value'),
  )
  expect(last.join()).toMatch(/task_completed/)
  expect(last.join()).not.toMatch(/TEMP B-TREE/)
  await store.close()
})
