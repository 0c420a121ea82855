/** A database may be another program's. It is then left as it is: nothing is made or changed in it. */

/** The tables and views of a SQLite database, without SQLite's own: the end of a SELECT over `sqlite_master AS m`. */
export const SQLITE_TABLES_CONDITION =
  "m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"

/** Says that a database has the tables of another program, and names a few of them. */
export function describeForeignTables(tables: readonly string[]): string {
  const names = tables.slice(0, 3).map((name) => `'${name}'`)
  return `it has the tables of another program (${names.join(', ')}${tables.length > 3 ? ', ...' : ''}), and is left as it is`
}
