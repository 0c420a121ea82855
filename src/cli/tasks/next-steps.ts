/** Describes the tasks that a batch leaves, with the commands that run them. Pure. */
import { quoteShellWord } from '../../posix/shell-words.ts'
import { toSeconds } from '../../tasks/text/units.ts'
import type { TaskCounts, TaskRun } from '../../tasks.ts'
import { hasUrlPassword } from '../secrets.ts'
import { formatCount } from '../text.ts'
import type { TaskServingFlags } from './run-options.ts'

type RemainingTasks = NonNullable<TaskRun['remaining']>
type LeftoverBatch = Awaited<ReturnType<TaskRun['otherBatches']>>[number]

/** The message names this number of folders at most. */
const MAX_NAMED_FOLDERS = 3

/** Describes the tasks that other batches left. It is printed before this batch begins. */
export function describeLeftovers(leftovers: readonly LeftoverBatch[], folder: string): string[] {
  const lines = leftovers
    .slice(0, MAX_NAMED_FOLDERS)
    .map(({ cwd, isSubmitted, isAlive, tasks }) => {
      if (isAlive) {
        return `${formatCount(tasks, 'task')} of this folder belong${verbEnding(tasks)} to a run that is active, or was a moment ago (--evict-after): when that run has ended, --restart runs ${tasks === 1 ? 'it' : 'them'}`
      }
      if (isSubmitted) {
        return `${formatCount(tasks, 'submitted task')} wait${verbEnding(tasks)}: manyhost tasks server runs all of them, manyhost tasks cluster --restart those of this folder`
      }
      const where = cwd === undefined ? '' : ` in ${cwd}`
      const how = cwd === undefined || cwd === folder ? '' : ', in that folder'
      return `${formatCount(tasks, 'task')} of an earlier batch${where} wait${verbEnding(tasks)}: --restart runs ${tasks === 1 ? 'it' : 'them'}${how}`
    })
  const rest = leftovers.slice(MAX_NAMED_FOLDERS).reduce((sum, { tasks }) => sum + tasks, 0)
  return rest > 0
    ? [...lines, `${formatCount(rest, 'more task')} wait${verbEnding(rest)} in other folders`]
    : lines
}

export interface FinishedBatch {
  readonly counts: TaskCounts
  readonly remaining: RemainingTasks
  readonly flags: TaskServingFlags
  /** The file that was read. Undefined for standard input, or where nothing was read. */
  readonly file: string | undefined
  readonly hasSource: boolean
  /** The existing ones of the file of failures and the JSON file beside it. */
  readonly failureFiles?: readonly string[]
}

/** Describes what is left to do, each with the command for it. */
export function describeNextSteps(ended: FinishedBatch): string[] {
  const { counts, remaining, flags, file, hasSource } = ended
  const { waiting, batch, isSourceWhole, lines, hasStanding } = remaining
  const steps: string[] = []
  const store = formatStoreFlag(flags)
  const how = formatRunFlags(flags)
  const restart = formatRestartCommand(flags)
  const template =
    flags.template === undefined || flags.restart ? '' : ` -t ${quoteShellWord(flags.template)}`
  const kind = flags.fromJson ? ' --from-json' : flags.requests ? ' --requests' : ''
  const isKept = flags.db !== false
  if (waiting > 0) {
    steps.push(
      isKept
        ? `${formatCount(waiting, 'task')} wait${verbEnding(waiting)}; to run ${waiting === 1 ? 'it' : 'them'}: ${restart}`
        : `${formatCount(waiting, 'task')} ${waiting === 1 ? 'was' : 'were'} not run, and ${waiting === 1 ? 'is' : 'are'} lost (--no-db)`,
    )
  }
  if (hasSource && !isSourceWhole) {
    const again = `manyhost tasks cluster${template}${kind}${formatTaskFlags(flags)}${how}${store}`
    if (file === undefined || file === '-') {
      const standing = hasStanding ? `, behind its lines of '# MANYHOST:' alone` : ''
      steps.push(
        `standard input was read up to line ${lines}; to run the rest, give it again from line ${lines + 1} on${standing}: ${again}`,
      )
    } else {
      const name = quoteShellWord(file)
      const tail = `tail -n +${lines + 1} ${name}`
      // A directive that applies to all following lines applies to the rest of the file, too.
      const rest = hasStanding
        ? `{ head -n ${lines} ${name} | grep -E ${DIRECTIVE_LINE_PATTERN}; ${tail}; }`
        : tail
      steps.push(`${file} was read up to line ${lines}; to run the rest: ${rest} | ${again}`)
    }
  }
  if (counts.failed > 0 && flags.failures !== undefined) {
    const files = ended.failureFiles ?? [flags.failures]
    const agains = files.map((one) => {
      const read = one === flags.failures ? kind : ' --from-json'
      return `manyhost tasks cluster ${quoteShellWord(one)}${template}${read}${how}${store}`
    })
    const them = files.length > 1 ? 'these files' : 'that file'
    steps.push(`${counts.failed} failed; to run what is in ${them} again: ${agains.join('; ')}`)
  } else if (counts.failed > 0 && isKept) {
    const those = `-w 'batch == ${batch}' -w 'state == failed'${store}`
    steps.push(
      `${counts.failed} failed; to see them: manyhost tasks list id exit_status args ${those}`,
    )
    steps.push(`to run them again: manyhost tasks update --revert ${those} -f && ${restart}`)
  }
  return steps
}

/** The command that runs the remaining tasks of this folder, with the options of this run. */
export function formatRestartCommand(flags: TaskServingFlags): string {
  return `manyhost tasks cluster --restart${formatRunFlags(flags)}${formatStoreFlag(flags)}`
}

/** The options of a run that change the outcome of its tasks and are not stored with the tasks. */
function formatRunFlags({ maxRetries, taskTimeout, restart, template }: TaskServingFlags): string {
  // Tasks that an older version stored have no template of their own.
  const older = restart && template !== undefined ? ` -t ${quoteShellWord(template)}` : ''
  const retries = maxRetries ? ` -r ${maxRetries}` : ''
  return `${older}${retries}${taskTimeout ? ` -W ${toSeconds(taskTimeout)}` : ''}`
}

/** A pattern of grep for lines that hold only a directive. */
const DIRECTIVE_LINE_PATTERN = `'^[[:space:]]*#[[:space:]]*(MANYHOST|HYPERSHELL):'`

/** The defaults of the command line for fields that a task does not set itself. */
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

/** Empty where the environment names the same store, or where the URL has a password. */
function formatStoreFlag({ store }: TaskServingFlags): string {
  if (store === undefined || store === process.env.MANYHOST_STORE) return ''
  return hasUrlPassword(store) ? '' : ` --store ${quoteShellWord(store)}`
}

function verbEnding(tasks: number): string {
  return tasks === 1 ? 's' : ''
}
