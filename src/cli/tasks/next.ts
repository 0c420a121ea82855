/** What a batch leaves, and the command to type next. Pure. */

import { toSeconds } from '../../tasks/units.ts'
import type { TaskCounts, TaskRun } from '../../tasks.ts'
import type { ServingFlags } from './asked.ts'
import { quoted } from './words.ts'

type Remaining = NonNullable<TaskRun['remaining']>
type Left = Awaited<ReturnType<TaskRun['leftBeside']>>[number]

/** Folders that are named. */
const MOST_NAMED = 3

/** What other batches have left, before this one begins. */
export function besides(left: readonly Left[], folder: string): string[] {
  const lines = left.slice(0, MOST_NAMED).map(({ cwd, isSubmitted, isAlive, tasks }) => {
    if (isAlive) {
      return `${count(tasks, 'task')} of this folder belong${s(tasks)} to a run that is at work, or was a moment ago (--evict-after): when that is gone, --restart runs ${tasks === 1 ? 'it' : 'them'}`
    }
    if (isSubmitted) {
      return `${count(tasks, 'submitted task')} wait${s(tasks)}: manyhost tasks server runs all of them, cluster --restart those of its folder`
    }
    const where = cwd === undefined ? '' : ` in ${cwd}`
    const how = cwd === undefined || cwd === folder ? '' : ', in that folder'
    return `${count(tasks, 'task')} of an earlier batch${where} wait${s(tasks)}: --restart runs ${tasks === 1 ? 'it' : 'them'}${how}`
  })
  const rest = left.slice(MOST_NAMED).reduce((sum, { tasks }) => sum + tasks, 0)
  return rest > 0 ? [...lines, `${rest} more wait in other folders`] : lines
}

export interface Ended {
  readonly counts: TaskCounts
  readonly remaining: Remaining
  readonly flags: ServingFlags
  /** The file that was read; undefined: standard input, or nothing. */
  readonly file: string | undefined
  readonly hasSource: boolean
  /** The file of failures and the one beside it, those that are there. */
  readonly failureFiles?: readonly string[]
}

/** What is left to be done, each with its command. */
export function nextSteps(ended: Ended): string[] {
  const { counts, remaining, flags, file, hasSource } = ended
  const { waiting, batch, isSourceWhole, lines, hasStanding } = remaining
  const said: string[] = []
  const store = storeWords(flags)
  const how = howWords(flags)
  const restart = restartCommand(flags)
  const template =
    flags.template === undefined || flags.restart ? '' : ` -t ${quoted(flags.template)}`
  const kind = flags.fromJson ? ' --from-json' : flags.requests ? ' --requests' : ''
  const isKept = flags.db !== false
  if (waiting > 0) {
    said.push(
      isKept
        ? `${count(waiting, 'task')} wait${s(waiting)}; to run ${waiting === 1 ? 'it' : 'them'}: ${restart}`
        : `${count(waiting, 'task')} ${waiting === 1 ? 'was' : 'were'} not run, and ${waiting === 1 ? 'is' : 'are'} kept nowhere (--no-db)`,
    )
  }
  if (hasSource && !isSourceWhole) {
    const again = `manyhost tasks cluster${template}${kind}${asksOf(flags)}${how}${store}`
    if (file === undefined || file === '-') {
      const standing = hasStanding ? `, behind its lines of '# MANYHOST:' alone` : ''
      said.push(
        `standard input was read up to line ${lines}; to run the rest, give it again from line ${lines + 1} on${standing}: ${again}`,
      )
    } else {
      const name = quoted(file)
      const tail = `tail -n +${lines + 1} ${name}`
      // What was said of all that follow is said of the rest as well.
      const rest = hasStanding
        ? `{ head -n ${lines} ${name} | grep -E ${STANDING}; ${tail}; }`
        : tail
      said.push(`${file} was read up to line ${lines}; to run the rest: ${rest} | ${again}`)
    }
  }
  if (counts.failed > 0 && flags.failures !== undefined) {
    const files = ended.failureFiles ?? [flags.failures]
    const agains = files.map((one) => {
      const read = one === flags.failures ? kind : ' --from-json'
      return `manyhost tasks cluster ${quoted(one)}${template}${read}${how}${store}`
    })
    const them = files.length > 1 ? 'these files' : 'that file'
    said.push(`${counts.failed} failed; to run what is in ${them} again: ${agains.join('; ')}`)
  } else if (counts.failed > 0 && isKept) {
    const those = `-w 'batch == ${batch}' -w 'state == failed'${store}`
    said.push(
      `${counts.failed} failed; to see them: manyhost tasks list id exit_status args ${those}`,
    )
    said.push(`to run them again: manyhost tasks update --revert ${those} -f && ${restart}`)
  }
  return said
}

/** Runs what this folder has left, as it was run. */
export function restartCommand(flags: ServingFlags): string {
  return `manyhost tasks cluster --restart${howWords(flags)}${storeWords(flags)}`
}

/** What is of the run, and not stored with its tasks, but changes what becomes of them. */
function howWords({ maxRetries, taskTimeout, restart, template }: ServingFlags): string {
  // Tasks of an older version have none of their own.
  const older = restart && template !== undefined ? ` -t ${quoted(template)}` : ''
  const retries = maxRetries ? ` -r ${maxRetries}` : ''
  return `${older}${retries}${taskTimeout ? ` -W ${toSeconds(taskTimeout)}` : ''}`
}

/** Lines of a directive alone, for grep. */
const STANDING = `'^[[:space:]]*#[[:space:]]*(MANYHOST|HYPERSHELL):'`

/** What the command line says of tasks that say nothing of it themselves. */
function asksOf({ cores, memory, group, tag }: ServingFlags): string {
  const numbers = [
    ['-c', cores],
    ['-m', memory],
    ['-g', group],
  ] as const
  const words = numbers.flatMap(([name, value]) => (value === undefined ? [] : [name, `${value}`]))
  const tags = tag === undefined || tag.length === 0 ? [] : ['--tag', ...tag.map(quoted)]
  return [...words, ...tags].map((word) => ` ${word}`).join('')
}

/** Not where the environment says it as well, nor what may have a password in it. */
function storeWords({ store }: ServingFlags): string {
  if (store === undefined || store === process.env.MANYHOST_STORE) return ''
  return /^postgres(ql)?:\/\/[^@/]*:[^@/]+@/i.test(store) ? '' : ` --store ${quoted(store)}`
}

function count(tasks: number, what: string): string {
  return `${tasks} ${what}${tasks === 1 ? '' : 's'}`
}

function s(tasks: number): string {
  return tasks === 1 ? 's' : ''
}
