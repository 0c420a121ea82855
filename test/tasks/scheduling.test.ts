/** Servers at their work on SQLite: the same on PostgreSQL by its engine test. */
import { openStore } from '../../src/tasks/store/open.ts'
import { folder } from '../cli/help.ts'
import { schedulingSuite } from './scheduling.suite.ts'

schedulingSuite('SQLite', async () => {
  const path = `${folder()}/tasks.db`
  return { open: (options) => openStore(path, options) }
})
