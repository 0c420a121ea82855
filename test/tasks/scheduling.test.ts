/** Servers at their work on SQLite: the same on PostgreSQL by its engine test. */
import { schedulingSuite } from './scheduling.suite.ts'
import { freshFile } from './store/store.suite.ts'

schedulingSuite('SQLite', freshFile)
