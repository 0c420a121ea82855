/**
 * Builds queries from a filter. Each query uses an index: by tag, by state, or by group and state (or kind, of new tasks). It has
 * one branch for each state, so that a page of a thousand tasks costs the same in a store of ten million as in a small one.
 */
import {
  type CompiledQuery,
  type Kysely,
  type RawBuilder,
  type SelectQueryBuilder,
  sql,
} from 'kysely'
import { TASK_COLUMNS, TASK_STATES, type TaskState } from '../model/task-columns.ts'
import type { FilterCondition, FilterOperator, ParsedTaskFilter } from './filter.ts'
import { STATE_OR_KIND_SQL, type StoreTables, splitNewByKind } from './tables.ts'

type TaskSelect = SelectQueryBuilder<StoreTables, 'task', { seq: number }>
type TaskDb = Kysely<StoreTables>

const SQL_OPERATORS: Readonly<
  Record<Exclude<FilterOperator, '~'>, '=' | '<>' | '>' | '>=' | '<' | '<='>
> = {
  '==': '=',
  '!=': '<>',
  '>': '>',
  '>=': '>=',
  '<': '<',
  '<=': '<=',
}

export interface SeqPage {
  /** The seq at the end of the page before. */
  readonly after?: number | undefined
  readonly limit: number
  readonly isDescending?: boolean
  /** Only these seqs. */
  readonly among?: readonly number[] | undefined
}

/** The seqs of a page of tasks, in order of submission. */
function selectPageSeqs(
  db: TaskDb,
  filter: ParsedTaskFilter,
  { after, limit, isDescending = false, among }: SeqPage,
): RawBuilder<unknown> {
  const order = sql.raw(isDescending ? 'DESC' : 'ASC')
  const branches = splitBranches(filter).map((branch) => {
    let one = selectBranch(db, branch.filter, branch.where)
    const seq = sql<number>`${sql.ref(filter.tags.length > 0 ? 'held.seq' : 'task.seq')}`
    if (after !== undefined) one = one.where(seq, isDescending ? '<' : '>', after)
    if (among) one = one.where(seq, 'in', among)
    one = one.orderBy(seq, isDescending ? 'desc' : 'asc').limit(limit)
    return sql`SELECT seq FROM ${one} AS branch`
  })
  return sql`SELECT seq FROM (${sql.join(branches, sql` UNION ALL `)}) AS page ORDER BY seq ${order} LIMIT ${limit}`
}

export function selectPage(db: TaskDb, filter: ParsedTaskFilter, page: SeqPage): CompiledQuery {
  return db
    .selectFrom('task')
    .select(TASK_COLUMNS)
    .where(sql<boolean>`seq IN (${selectPageSeqs(db, filter, page)})`)
    .orderBy('seq', page.isDescending ? 'desc' : 'asc')
    .compile()
}

/** Selects only the seqs of a page. */
export function compilePageSeqs(
  db: TaskDb,
  filter: ParsedTaskFilter,
  page: SeqPage,
): CompiledQuery {
  return sql`${selectPageSeqs(db, filter, page)}`.compile(db)
}

/** Selects seqs in the order of another column: of the tasks that have a value there, or of those that have none. */
export function selectSorted(
  db: TaskDb,
  filter: ParsedTaskFilter,
  by: (typeof TASK_COLUMNS)[number],
  isDescending: boolean,
  limit: number | undefined,
  has: 'value' | 'none',
): CompiledQuery {
  const order = isDescending ? 'desc' : 'asc'
  const column = sql.ref(`task.${by}`)
  let select = whereFiltered(
    db.selectFrom('task').select(['task.seq', `task.${by} as value`]),
    filter,
  )
    .where(sql<boolean>`${column} IS ${sql.raw(has === 'value' ? 'NOT' : '')} NULL`)
    .orderBy(column, order)
    .orderBy('task.seq', order)
  if (filter.tags.length > 0) select = whereTagged(db, select, filter)
  if (filter.states.size < TASK_STATES.length) {
    select = select.where('task.state', 'in', [...filter.states])
  }
  if (limit !== undefined) select = select.limit(limit)
  return select.compile()
}

export function selectBySeqs(db: TaskDb, seqs: readonly number[]): CompiledQuery {
  return db.selectFrom('task').select(TASK_COLUMNS).where('seq', 'in', seqs).compile()
}

export function selectByIds(db: TaskDb, ids: readonly string[]): CompiledQuery {
  return db.selectFrom('task').select(TASK_COLUMNS).where('id', 'in', ids).compile()
}

/** Counts tasks one by one, for filters that the kept counts cannot answer. */
export function selectCount(db: TaskDb, filter: ParsedTaskFilter): CompiledQuery {
  const branches = splitBranches(filter).map(
    (branch) =>
      sql`SELECT count(*) AS n FROM ${selectBranch(db, branch.filter, branch.where)} AS branch`,
  )
  return sql`SELECT sum(n) AS n FROM (${sql.join(branches, sql` UNION ALL `)}) AS counts`.compile(
    db,
  )
}

/** Selects the kept counts by group, attempt and state, as far as they match the filter. */
export function selectKeptCounts(
  db: TaskDb,
  filter?: Pick<ParsedTaskFilter, 'states' | 'group' | 'attemptConditions'>,
): CompiledQuery {
  let select = db
    .selectFrom('task_count')
    .select(['group', 'attempt', 'state', sql<number>`CAST(sum(n) AS BIGINT)`.as('n')])
    .groupBy(['group', 'attempt', 'state'])
    .having(sql`sum(n)`, '<>', 0)
    .orderBy('group')
    .orderBy('attempt')
  if (filter?.group !== undefined) select = select.where('group', '=', filter.group)
  if (filter) select = select.where('state', 'in', [...filter.states, '' as TaskState])
  for (const { operator, value } of filter?.attemptConditions ?? []) {
    select = select.where('attempt', SQL_OPERATORS[operator as '=='], value as number)
  }
  return select.compile()
}

interface QueryBranch {
  readonly filter: ParsedTaskFilter
  readonly where: RawBuilder<boolean> | undefined
}

/** Each branch has one value of the first tag, so that its tasks come in the order of the index. */
function splitBranches(filter: ParsedTaskFilter): QueryBranch[] {
  const [first, ...others] = filter.tags
  const wheres = splitByState(filter)
  if (!first?.values) return wheres.map((where) => ({ filter, where }))
  return first.values.flatMap((value) => {
    const one = { ...filter, tags: [{ key: first.key, values: [value] }, ...others] }
    return wheres.map((where) => ({ filter: one, where }))
  })
}

/**
 * 1. Any state, and a tag, an id or no group: one branch, since the state does not matter for the index.
 * 2. No group: one branch for each state.
 * 3. A group: one branch for each state, and for each kind of new tasks.
 */
function splitByState({
  states,
  group,
  tags,
  conditions,
}: ParsedTaskFilter): QueryBranch['where'][] {
  if (states.size === 0) return []
  const isAny = states.size === TASK_STATES.length
  const isNamed = conditions.some(({ field, operator }) => field === 'id' && operator === '==')
  // 1.
  if (isAny && (tags.length > 0 || isNamed || group === undefined)) return [undefined]
  // 2.
  if (group === undefined) return [...states].map((state) => sql`task.state = ${state}`)
  // 3.
  return [...states]
    .flatMap(splitNewByKind)
    .map((stateOrKind) => sql`${sql.raw(STATE_OR_KIND_SQL)} = ${stateOrKind}`)
}

function selectBranch(
  db: TaskDb,
  filter: ParsedTaskFilter,
  branch: QueryBranch['where'],
): TaskSelect {
  const [first, ...tags] = filter.tags
  if (first === undefined) {
    const from = whereFiltered(db.selectFrom('task').select('task.seq'), filter)
    return branch ? from.where(branch) : from
  }
  let holders = db.selectFrom('task_tag').select('task_tag.seq').where('key', '=', first.key)
  if (first.values) holders = holders.where('value', '=', first.values[0] as string)
  // A cross join, because SQLite then keeps the order of the tables as written: tags first.
  let from = db
    .selectFrom(holders.as('held'))
    .crossJoin('task')
    .whereRef('task.seq', '=', 'held.seq')
    .select('held.seq') as unknown as TaskSelect
  from = whereTagged(db, whereFiltered(from, filter), { ...filter, tags })
  return branch ? from.where(branch) : from
}

/** The tasks come from the first tag; each further tag is looked up for each of them. */
function whereTagged<T extends SelectQueryBuilder<StoreTables, 'task', object>>(
  db: TaskDb,
  from: T,
  { tags }: ParsedTaskFilter,
): T {
  let made: SelectQueryBuilder<StoreTables, 'task', object> = from
  for (const { key, values } of tags) {
    let holders = db
      .selectFrom('task_tag')
      .select('task_tag.seq')
      .where('key', '=', key)
      .where(sql<boolean>`task_tag.seq = task.seq`)
    if (values) holders = holders.where('value', 'in', [...values])
    made = made.where((one) => one.exists(holders))
  }
  return made as T
}

function whereFiltered<T extends SelectQueryBuilder<StoreTables, 'task', object>>(
  from: T,
  filter: ParsedTaskFilter,
): T {
  let made: SelectQueryBuilder<StoreTables, 'task', object> = from
  if (filter.group !== undefined) made = made.where('task.group', '=', filter.group)
  for (const one of [...filter.conditions, ...filter.attemptConditions])
    made = made.where(compileCondition(one))
  if (filter.extraSql) made = made.where(filter.extraSql)
  return made as T
}

function compileCondition({ field, operator, value }: FilterCondition): RawBuilder<boolean> {
  const column = sql.ref(`task.${field}`)
  if (value === null) return sql`${column} IS ${sql.raw(operator === '==' ? '' : 'NOT')} NULL`
  return sql`${column} ${sql.raw(SQL_OPERATORS[operator as '=='])} ${value}`
}
