/** Prepared statements of SQLite, by their text. */
import type Database from 'libsql'

/** Each user may filter by a text of his own, so the cache has to be bounded. */
const MAX_PREPARED = 200

export class PreparedCache {
  readonly #database: Database.Database
  readonly #statements = new Map<string, Database.Statement<unknown[]>>()

  constructor(database: Database.Database) {
    this.#database = database
  }

  get(sql: string): Database.Statement<unknown[]> {
    const known = this.#statements.get(sql)
    if (known) return known
    const statement = this.#database.prepare(sql)
    if (this.#statements.size >= MAX_PREPARED) {
      this.#statements.delete(this.#statements.keys().next().value as string)
    }
    this.#statements.set(sql, statement)
    return statement
  }

  clear(): void {
    this.#statements.clear()
  }
}
