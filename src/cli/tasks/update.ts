/** `manyhost tasks update`: changes, cancels, reverts or deletes tasks. */
import { createDict, dictFromEntries } from '../../core/null-prototype.ts'
import { requireBytes } from '../../core/units.ts'
import type { TagValue } from '../../tasks/model/task.ts'
import type { TaskChanges } from '../../tasks/store/change-tasks.ts'
import { parseTag } from '../../tasks/text/tags.ts'
import { parseTaskDuration } from '../../tasks/text/units.ts'
import { CliError, TASK_EXIT } from '../exit.ts'
import { writeLine } from '../terminal.ts'
import { formatCount } from '../text.ts'
import {
  askYesOrNo,
  type FilterFlags,
  type StoreFlags,
  toTaskCliError,
  toTaskFilter,
  toTaskOrder,
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
  refuseChangesAsFilters(flags)
  const changes = parseChanges(words, flags)
  const isChanged = words.length > 0 || flags.removeTag !== undefined
  if (whole.length + Number(isChanged) !== 1) {
    throw new CliError(
      'usage',
      'give one of --cancel, --revert, --delete, or changes: field=value, tag:value, --remove-tag',
    )
  }
  const [action] = whole
  return withStore(flags, false, async (store) => {
    const filter = toTaskFilter(flags)
    const count = await store.count(filter)
    const max = Math.min(count, flags.limit ?? count)
    if (flags.confirm && max > 0) {
      const isSure = await askYesOrNo(`${action ?? 'change'} ${formatCount(max, 'task')}?`, '-f')
      if (!isSure) return TASK_EXIT.failure.number
    }
    const changed = action
      ? await store[action](filter, toTaskOrder(flags))
      : await store.update(filter, changes, toTaskOrder(flags))
    await writeLine(`${changed} of ${max}`)
    return TASK_EXIT.ok.number
  })
}

/** `-t` and `-w` take all words that follow. A change after them would be a filter, and would change no task. */
function refuseChangesAsFilters({ withTag = [], where = [] }: UpdateFlags): void {
  const [, ...later] = where
  const taken =
    withTag.find((word) => word.includes('=')) ?? later.find((word) => /^[a-z_]+=[^=~]/.test(word))
  if (taken === undefined) return
  throw new CliError(
    'usage',
    `${taken} follows -t or -w, which take all words: write changes before them, or after --; a condition is written with ==`,
  )
}

/** @throws CliError */
function parseChanges(words: readonly string[], { removeTag = [] }: UpdateFlags): TaskChanges {
  try {
    return parseChangeWords(words, removeTag)
  } catch (error) {
    throw toTaskCliError(error)
  }
}

function parseChangeWords(words: readonly string[], removeTags: readonly string[]): TaskChanges {
  const fields = createDict<unknown>()
  const tags: [string, TagValue][] = []
  for (const word of words) {
    // The first of the two signs counts: a value can contain the other one.
    const [, name = '', sign, value = ''] = /^([^=:]+)([=:])(.*)$/s.exec(word) ?? []
    if (sign === ':') tags.push(parseTag(word))
    else if (sign === '=') fields[name] = parseField(name, value)
    else {
      throw new CliError(
        'usage',
        `a change must be field=value or tag:value, got ${JSON.stringify(word)}`,
      )
    }
  }
  return { ...fields, ...(tags.length > 0 && { tag: dictFromEntries(tags) }), removeTags }
}

const NUMBER_FIELDS: ReadonlySet<string> = new Set(['group', 'cores', 'memory', 'timeout'])

/** Parses a field as its option is parsed: `timeout=30` is 30 s, `memory=2GB` is 2 x 10^9 bytes. */
function parseField(name: string, value: string): unknown {
  // The store reports an error for a field that cannot be changed.
  if (!NUMBER_FIELDS.has(name)) return value
  if (/^(?:null|none)$/i.test(value)) return null
  if (name === 'timeout') return parseTaskDuration(value)
  if (name === 'memory') return requireBytes(value)
  const made = Number(value)
  if (value.trim() !== '' && Number.isFinite(made)) return made
  throw new CliError('usage', `${name}: expected a number or null, got ${JSON.stringify(value)}`)
}
