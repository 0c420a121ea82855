/** What a batch leaves, and the command to type next. Pure. */

import { quoteShellWord } from '../../posix/shell-words.ts'
import { toSeconds } from '../../tasks/text/units.ts'
import type { TaskCounts, TaskRun } from '../../tasks.ts'
import type { TaskServingFlags } from './run-options.ts'

type RemainingTasks = NonNullable<TaskRun['remaining']>
type LeftoverBatch = Awaited<ReturnType<TaskRun['otherBatches']>>[number]

/** Folders that are named. */
const MAX_NAMED_FOLDERS = 3

/** What other batches have left, before this one begins. */
export function describeLeftovers(leftovers: readonly LeftoverBatch[], folder: string): string[] {
  const lines = leftovers
    .slice(0, MAX_NAMED_FOLDERS)
    .map(({ cwd, isSubmitted, isAlive, tasks }) => {
      if (isAlive) {
        return `${formatCount(tasks, 'task')} of this folder belong${verbEnding(tasks)} to a run that is at work, or was a moment ago (--evict-after): when that is gone, --restart runs ${tasks === 1 ? 'it' : 'them'}`
      }
      if (isSubmitted) {
        return `${formatCount(tasks, 'submitted task')} wait${verbEnding(tasks)}: manyhost tasks server runs all of them, cluster --restart those of its folder`
      }
      const where = cwd === undefined ? '' : ` in ${cwd}`
      const how = cwd === undefined || cwd === folder ? '' : ', in that folder'
      return `${formatCount(tasks, 'task')} of an earlier batch${where} wait${verbEnding(tasks)}: --restart runs ${tasks === 1 ? 'it' : 'them'}${how}`
    })
  const rest = leftovers.slice(MAX_NAMED_FOLDERS).reduce((sum, { tasks }) => sum + tasks, 0)
  return rest > 0 ? [...lines, `${rest} more wait in other folders`] : lines
}

export interface FinishedBatch {
  readonly counts: TaskCounts
  readonly remaining: RemainingTasks
  readonly flags: TaskServingFlags
  /** The file that was read; undefined: standard input, or nothing. */
  readonly file: string | undefined
  readonly hasSource: boolean
  /** The file of failures and the one beside it, those that are there. */
  readonly failureFiles?: readonly string[]
}

/** What is left to be done, each with its command. */
export function describeNextSteps(ended: FinishedBatch): string[] {
  const { counts, remaining, flags, file, hasSource } = ended
  const { waiting, batch, isSourceWhole, lines, hasStanding } = remaining
  const said: string[] = []
  const store = formatStoreFlag(flags)
  const how = formatRunFlags(flags)
  const restart = formatRestartCommand(flags)
  const template =
    flags.template === undefined || flags.restart ? '' : ` -t ${quoteShellWord(flags.template)}`
  const kind = flags.fromJson ? ' --from-json' : flags.requests ? ' --requests' : ''
  const isKept = flags.db !== false
  if (waiting > 0) {
    said.push(
      isKept
        ? `${formatCount(waiting, 'task')} wait${verbEnding(waiting)}; to run ${waiting === 1 ? 'it' : 'them'}: ${restart}`
        : `${formatCount(waiting, 'task')} ${waiting === 1 ? 'was' : 'were'} not run, and ${waiting === 1 ? 'is' : 'are'} kept nowhere (--no-db)`,
    )
  }
  if (hasSource && !isSourceWhole) {
    const again = `manyhost tasks cluster${template}${kind}${formatTaskFlags(flags)}${how}${store}`
    if (file === undefined || file === '-') {
      const standing = hasStanding ? `, behind its lines of '# MANYHOST:' alone` : ''
      said.push(
        `standard input was read up to line ${lines}; to run the rest, give it again from line ${lines + 1} on${standing}: ${again}`,
      )
    } else {
      const name = quoteShellWord(file)
      const tail = `tail -n +${lines + 1} ${name}`
      // What was said of all that follow is said of the rest as well.
      const rest = hasStanding
        ? `{ head -n ${lines} ${name} | grep -E ${DIRECTIVE_LINE_PATTERN}; ${tail}; }`
        : tail
      said.push(`${file} was read up to line ${lines}; to run the rest: ${rest} | ${again}`)
    }
  }
  if (counts.failed > 0 && flags.failures !== undefined) {
    const files = ended.failureFiles ?? [flags.failures]
    const agains = files.map((one) => {
      const read = one === flags.failures ? kind : ' --from-json'
      return `manyhost tasks cluster ${quoteShellWord(one)}${template}${read}${how}${store}`
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
export function formatRestartCommand(flags: TaskServingFlags): string {
  return `manyhost tasks cluster --restart${formatRunFlags(flags)}${formatStoreFlag(flags)}`
}

/** What is of the run, and not stored with its tasks, but changes what becomes of them. */
function formatRunFlags({ maxRetries, taskTimeout, restart, template }: TaskServingFlags): string {
  // Tasks of an older version have none of their own.
  const older = restart && template !== undefined ? ` -t ${quoteShellWord(template)}` : ''
  const retries = maxRetries ? ` -r ${maxRetries}` : ''
  return `${older}${retries}${taskTimeout ? ` -W ${toSeconds(taskTimeout)}` : ''}`
}

/** Lines of a directive alone, for grep. */
const DIRECTIVE_LINE_PATTERN = `'^[[:space:]]*#[[:space:]]*(MANYHOST|HYPERSHELL):'`

/** What the command line says of tasks that say nothing of it themselves. */
function formatTaskFlags({ cores, memory, group, tag }: TaskServingFlags): string {
  const numbers = [
    ['-c', cores],
    ['-m', memory],
    ['-g', group],
  ] as const
  const words = numbers.flatMap(([name, value]) => (value === undefined ? [] : [name, `${value}`]))
  const tags = tag === undefined || tag.length === 0 ? [] : ['--tag', ...tag.map(quoteShellWord)]
  return [...words, ...tags].map((word) => ` ${word}`).join('')
}

/** Not where the environment says it as well, nor what may have a password in it. */
function formatStoreFlag({ store }: TaskServingFlags): string {
  if (store === undefined || store === process.env.MANYHOST_STORE) return ''
  return /^postgres(ql)?:\/\/[^@/]*:[^@/]+@/i.test(store) ? '' : ` --store ${quoteShellWord(store)}`
}

function formatCount(tasks: number, what: string): string {
  return `${tasks} ${what}${tasks === 1 ? '' : 's'}`
}

function verbEnding(tasks: number): string {
  return tasks === 1 ? 's' : ''
}
