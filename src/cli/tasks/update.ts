/** `manyhost tasks update`. */

import { dict, dictOf } from '../../core/dict.ts'
import type { Changes } from '../../tasks/store/changes.ts'
import { parseTag } from '../../tasks/tags.ts'
import type { TagValue } from '../../tasks/task.ts'
import { memorySize, taskDuration } from '../../tasks/units.ts'
import { CliError, TASK_EXIT } from '../exit.ts'
import { line } from '../terminal.ts'
import {
  exitFor,
  type FilterFlags,
  filterOf,
  orderOf,
  type StoreFlags,
  sure,
  withStore,
} from './store.ts'

interface UpdateFlags extends StoreFlags, FilterFlags {
  readonly cancel?: boolean
  readonly revert?: boolean
  readonly delete?: boolean
  readonly removeTag?: readonly string[]
  readonly confirm: boolean
}

export async function run([given]: readonly unknown[], flags: UpdateFlags): Promise<number> {
  const words = (given ?? []) as readonly string[]
  const whole = (['cancel', 'revert', 'delete'] as const).filter((name) => flags[name])
  checkChanges(flags)
  const changes = changesOf(words, flags)
  const isChanged = words.length > 0 || flags.removeTag !== undefined
  if (whole.length + Number(isChanged) !== 1) {
    throw new CliError(
      'usage',
      'say one of --cancel, --revert, --delete, or what to change: field=value, tag:value, --remove-tag',
    )
  }
  const [action] = whole
  return withStore(flags, false, async (store) => {
    const filter = filterOf(flags)
    const count = await store.count(filter)
    const most = Math.min(count, flags.limit ?? count)
    if (flags.confirm && most > 0) {
      const isSure = await sure(`${action ?? 'change'} ${most} task${most === 1 ? '' : 's'}?`, '-f')
      if (!isSure) return TASK_EXIT.failure.number
    }
    const changed = action
      ? await store[action](filter, orderOf(flags))
      : await store.update(filter, changes, orderOf(flags))
    await line(`${changed} of ${most}`)
    return TASK_EXIT.ok.number
  })
}

/** `-t` and `-w` take all words that follow: a change that stands behind them would choose tasks, and change none. */
function checkChanges({ withTag = [], where = [] }: UpdateFlags): void {
  const [, ...later] = where
  const taken =
    withTag.find((word) => word.includes('=')) ?? later.find((word) => /^[a-z_]+=[^=~]/.test(word))
  if (taken === undefined) return
  throw new CliError(
    'usage',
    `${taken} stands behind -t or -w, which take all words: write changes before them, or behind --; a condition is written with ==`,
  )
}

/** @throws CliError */
function changesOf(words: readonly string[], { removeTag = [] }: UpdateFlags): Changes {
  try {
    return read(words, removeTag)
  } catch (error) {
    throw exitFor(error)
  }
}

function read(words: readonly string[], removeTags: readonly string[]): Changes {
  const fields = dict<unknown>()
  const tags: [string, TagValue][] = []
  for (const word of words) {
    // The first of both signs: a value may hold the other.
    const [, name = '', sign, value = ''] = /^([^=:]+)([=:])(.*)$/s.exec(word) ?? []
    if (sign === ':') tags.push(parseTag(word))
    else if (sign === '=') fields[name] = field(name, value)
    else {
      throw new CliError(
        'usage',
        `a change is field=value or tag:value, got ${JSON.stringify(word)}`,
      )
    }
  }
  return { ...fields, ...(tags.length > 0 && { tag: dictOf(tags) }), removeTags }
}

const NUMBERS: ReadonlySet<string> = new Set(['group', 'cores', 'memory', 'timeout'])

/** Each field is read as its option is: `timeout=30` is 30 s, `memory=2GB` is 2 x 1024^3 bytes. */
function field(name: string, value: string): unknown {
  // Of what cannot be changed the store says what can.
  if (!NUMBERS.has(name)) return value
  if (/^(?:null|none)$/i.test(value)) return null
  if (name === 'timeout') return taskDuration(value)
  if (name === 'memory') return memorySize(value)
  const made = Number(value)
  if (value.trim() !== '' && Number.isFinite(made)) return made
  throw new CliError('usage', `${name}: expected a number or null, got ${JSON.stringify(value)}`)
}
