/** `manyhost tasks update`. */

import { dict } from '../../dict.ts'
import type { Changes } from '../../tasks/store/changes.ts'
import { tagValue } from '../../tasks/store/check.ts'
import type { TagValue } from '../../tasks/task.ts'
import { duration } from '../../time.ts'
import { CliError, TASK_EXIT } from '../exit.ts'
import { line } from '../terminal.ts'
import { type FilterFlags, filterOf, orderOf, type StoreFlags, sure, withStore } from './store.ts'

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
  const changes = read(words, flags.removeTag ?? [])
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

function read(words: readonly string[], removeTags: readonly string[]): Changes {
  const fields = dict<unknown>()
  const tag = dict<TagValue>()
  for (const word of words) {
    const [, name = '', sign, value = ''] = /^([^=:]+)([=:])(.*)$/s.exec(word) ?? []
    if (sign === ':') tag[name] = tagValue(value)
    else if (sign === '=') fields[name] = name === 'args' ? value : number(name, value)
    else
      throw new CliError(
        'usage',
        `a change is field=value or tag:value, got ${JSON.stringify(word)}`,
      )
  }
  return { ...fields, ...(Object.keys(tag).length > 0 && { tag }), removeTags }
}

function number(name: string, value: string): number | null {
  if (value === 'null') return null
  if (name === 'timeout' && /[a-z]$/.test(value)) return duration(value)
  const made = Number(value)
  if (value.trim() !== '' && Number.isFinite(made)) return made
  throw new CliError('usage', `${name}: expected a number or null, got ${JSON.stringify(value)}`)
}
