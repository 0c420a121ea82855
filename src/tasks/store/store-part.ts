/** A store, or one of its partitions: what a query needs. */
import type { Kysely } from 'kysely'
import type { DatabaseEngine } from '../../store/engine.ts'
import type { StoreTables } from './tables.ts'

export interface StorePart {
  readonly engine: DatabaseEngine
  /** Builds queries for the tables of this part. */
  readonly db: Kysely<StoreTables>
}
