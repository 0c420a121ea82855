/** Which store, and which tasks of it, the command line means. */
import { createInterface } from 'node:readline/promises'
import { ManyhostError } from '../../core/errors.ts'
import { TASK_COLUMNS } from '../../tasks/model/task-columns.ts'
import type { TaskFilter } from '../../tasks/store/filter.ts'
import { defaultStorePath, openStore } from '../../tasks/store/open.ts'
import type { TaskOrder } from '../../tasks/store/order.ts'
import type { Store } from '../../tasks/store/store.ts'
import { CliError } from '../exit.ts'

export interface StoreFlags {
  readonly store?: string
  readonly ignorePartitions?: boolean
}

export interface FilterFlags {
  readonly where?: readonly string[]
  readonly withTag?: readonly string[]
  readonly group?: number
  readonly failed?: boolean
  readonly succeeded?: boolean
  readonly completed?: boolean
  readonly remaining?: boolean
  readonly retries?: boolean
  readonly orderBy?: string
  readonly desc?: boolean
  readonly limit?: number
}

/** Where the store is that is meant. */
export function chooseStore({ store = defaultStorePath() }: StoreFlags): string {
  return store
}

/** An error of the store or of tasks, with the exit code that fits. */
export function toTaskCliError(error: unknown): unknown {
  if (!(error instanceof ManyhostError)) return error
  const exits = {
    MANYHOST_UNKNOWN_TASK: 'notFound',
    MANYHOST_INVALID_OPTION: 'usage',
    MANYHOST_INVALID_TASK: 'usage',
    MANYHOST_STORE_VERSION: 'config',
    MANYHOST_UNAUTHORIZED: 'refused',
  } as const
  const exit = exits[error.code as keyof typeof exits] ?? 'failure'
  return new CliError(exit, error.message, { cause: error })
}

/** Runs with the store open; errors of it end the command with the exit code that fits. */
export async function withStore(
  flags: StoreFlags,
  create: boolean,
  run: (store: Store) => Promise<number>,
): Promise<number> {
  const where = chooseStore(flags)
  try {
    const store = await openStore(where, { create, partitions: !flags.ignorePartitions })
    try {
      return await run(store)
    } finally {
      await store.close()
    }
  } catch (error) {
    throw toTaskCliError(error)
  }
}

const STATE_FLAGS = ['failed', 'succeeded', 'completed', 'remaining', 'retries'] as const

/** @throws CliError for a field behind `-t` or `-w`, which take all words that follow */
export function toTaskFilter(flags: FilterFlags): TaskFilter {
  const [, ...tags] = flags.withTag ?? []
  const field = [...(flags.where ?? []), ...tags].find((word) => isColumn(word))
  if (field !== undefined) {
    throw new CliError(
      'usage',
      `${field} is a field and stands behind -t or -w, which take all words: write fields before them, or behind --`,
    )
  }
  return {
    where: flags.where ?? [],
    tags: flags.withTag ?? [],
    only: STATE_FLAGS.filter((name) => flags[name]),
    ...(flags.group !== undefined && { group: flags.group }),
  }
}

function isColumn(word: string): boolean {
  return (TASK_COLUMNS as readonly string[]).includes(word)
}

/** Which of them first, and how many. */
export function toTaskOrder({ orderBy, desc, limit }: FilterFlags): TaskOrder {
  return {
    isDescending: desc === true,
    ...(orderBy !== undefined && { sort: orderBy }),
    ...(limit !== undefined && { limit }),
  }
}

/** Asks a person. @throws CliError where there is none */
export async function askYesOrNo(question: string, flag: string): Promise<boolean> {
  if (!process.stdin.isTTY) {
    throw new CliError('usage', `${question} There is no terminal to ask on: give ${flag}`)
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    return /^y(es)?$/i.test((await terminal.question(`${question} [y/N] `)).trim())
  } finally {
    terminal.close()
  }
}
