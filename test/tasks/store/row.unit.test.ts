/** Rows and tasks: each cell goes to the field of its column, and back. */
import { expect, it } from 'vitest'
import { COLUMN_KINDS, TASK_COLUMNS } from '../../../src/tasks/model/task-columns.ts'
import { readTaskRow, taskToCells } from '../../../src/tasks/store/row.ts'

it('reads each cell into the field of its column, and writes it back', () => {
  const cells = TASK_COLUMNS.map((name, index) => {
    if (name === 'tag') return '{"run":1}'
    if (name === 'request') return '{"method":"GET","url":"http://calc/","headers":{},"body":null}'
    if (name === 'env') return '{"A":"b"}'
    if (name === 'retried' || name === 'captured') return 1
    return COLUMN_KINDS[name] === 'text' ? `${name} ${index}` : index
  })
  const { seq, task } = readTaskRow(cells)
  expect(seq).toBe(0)
  expect(taskToCells(task, TASK_COLUMNS.slice(1))).toEqual(cells.slice(1))
})
