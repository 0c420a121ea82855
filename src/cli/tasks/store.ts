/** The store that the command line names, and the tasks that its filters choose. */
import { createInterface } from 'node:readline/promises'
import { TASK_COLUMNS } from '../../tasks/model/task-columns.ts'
import type { TaskFilter } from '../../tasks/store/filter.ts'
import { defaultStorePath, openStore } from '../../tasks/store/open.ts'
import type { TaskOrder } from '../../tasks/store/order.ts'
import type { Store } from '../../tasks/store/store.ts'
import { CliError, toCliError } from '../exit.ts'

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

/** The path or URL of the store. */
export function chooseStore({ store = defaultStorePath() }: StoreFlags): string {
  return store
}

const EXIT_KINDS = {
  MANYHOST_UNKNOWN_TASK: 'notFound',
  MANYHOST_INVALID_OPTION: 'usage',
  MANYHOST_INVALID_TASK: 'usage',
  MANYHOST_STORE_VERSION: 'config',
  MANYHOST_UNAUTHORIZED: 'refused',
} as const

/** Turns an error of the store, of tasks or of a listening socket into one with the fitting exit code. */
export function toTaskCliError(error: unknown): unknown {
  return toCliError(error, EXIT_KINDS, 'failure')
}

/** Opens the store, calls `run` and closes the store. Its errors end the command with the fitting exit code. */
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

/** @throws CliError for a field after `-t` or `-w`, because these options take all words that follow */
export function toTaskFilter(flags: FilterFlags): TaskFilter {
  const [, ...tags] = flags.withTag ?? []
  const field = [...(flags.where ?? []), ...tags].find((word) => isColumn(word))
  if (field !== undefined) {
    throw new CliError(
      'usage',
      `${field} is a field and follows -t or -w, which take all words: write fields before them, or after --`,
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

/** The order of the tasks, and how many of them. */
export function toTaskOrder({ orderBy, desc, limit }: FilterFlags): TaskOrder {
  return {
    isDescending: desc === true,
    ...(orderBy !== undefined && { sort: orderBy }),
    ...(limit !== undefined && { limit }),
  }
}

/** Asks the user. @throws CliError if standard input is not a terminal */
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
