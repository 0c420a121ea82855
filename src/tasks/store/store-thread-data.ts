/** What a program and the thread of its store agree on. */
import type { SqliteStoreOptions } from './sqlite-store.ts'

/** What the thread is started with. */
export interface StoreThreadData {
  readonly path: string
  readonly options: SqliteStoreOptions
}

/** The event of `Store.onAdded`. */
export const ADDED_EVENT = 'added'
