/** `manyhost tasks submit`. */
import { statSync } from 'node:fs'
import { openStore } from '../../tasks/store/open.ts'
import type { Store } from '../../tasks/store/store.ts'
import { parseTags } from '../../tasks/text/tags.ts'
import { type NewTask, submitFrom } from '../../tasks.ts'
import { CliError, TASK_EXIT } from '../exit.ts'
import { abortOnInterrupt } from '../interrupt.ts'
import { write, writeLine } from '../terminal.ts'
import { openTaskSource } from './cluster.ts'
import { toRequestTask, toShellLine } from './command-words.ts'
import { chooseLineKind, exportedVariables } from './run-options.ts'
import { chooseStore, type StoreFlags, toTaskCliError } from './store.ts'
import { checkServerUrl, type TaskServerFlags, toPeerOptions } from './task-server.ts'

interface SubmitFlags extends StoreFlags, TaskServerFlags {
  readonly file?: string
  readonly template?: string
  readonly taskTimeout?: number
  readonly bundlesize?: number
  readonly bundlewait?: number
  readonly capture?: boolean
  readonly cores?: number
  readonly memory?: number
  readonly group?: number
  readonly tag?: readonly string[]
  readonly fromJson?: boolean
  readonly requests?: boolean
}

/** Makes a task of the words. A directive after a `#` has no meaning here. */
function parseTask(words: readonly string[], { requests }: SubmitFlags): NewTask {
  return requests ? toRequestTask(words) : { args: toShellLine(words) }
}

/** The file of `-f`; or, as in HyperShell, a single word that is the name of a file and not of a program. */
function chooseTaskFile(
  words: readonly string[],
  { file, requests }: SubmitFlags,
): string | undefined {
  const [word] = words
  if (file !== undefined || requests || word === undefined || words.length > 1) return file
  return word === '-' || isTaskFile(word) ? word : undefined
}

function isTaskFile(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false })
  return found?.isFile() === true && (found.mode & 0o111) === 0
}

export async function run([given]: readonly unknown[], flags: SubmitFlags): Promise<number> {
  const words = (given ?? []) as readonly string[]
  const file = chooseTaskFile(words, flags)
  if (words.length > 0 === (flags.file !== undefined)) {
    const taken = words.length === 0 && (flags.tag ?? []).length > 1
    const hint = taken ? '; -t takes all words up to the next option: -t a:1 -- COMMAND' : ''
    throw new CliError(
      'usage',
      `give one command line, or -f FILE for many (- for standard input)${hint}`,
    )
  }
  const server = checkServerUrl(flags)
  const { signal, code } = abortOnInterrupt('tasks')
  let badLines = 0
  let store: Store | undefined
  try {
    store = server === undefined ? await openStore(chooseStore(flags)) : undefined
    const source = file === undefined ? [parseTask(words, flags)] : openTaskSource(file, false)
    const tags = {
      ...(flags.tag && parseTags(flags.tag)),
      ...(flags.capture && { capture: true }),
    }
    const { count, submitId, ids } = await submitFrom(source ?? [], {
      ...(store ? { store } : toPeerOptions({ ...flags, server: server as string })),
      kind: chooseLineKind(flags),
      template: flags.template,
      taskTimeout: flags.taskTimeout,
      bundleSize: flags.bundlesize,
      bundleWait: flags.bundlewait,
      taskCores: flags.cores,
      taskMemory: flags.memory,
      // As in HyperShell, the task joins the group that is being worked on.
      group: flags.group ?? (await store?.currentGroup()),
      tags: Object.keys(tags).length > 0 ? tags : undefined,
      env: exportedVariables(process.env),
      signal,
      onBad: ({ message }) => {
        badLines++
        process.stderr.write(`manyhost: ${message}\n`)
      },
    })
    if (file === undefined) await writeLine(ids[0])
    else await write(`manyhost: ${count} tasks, submit_id ${submitId}\n`, process.stderr)
    if (signal.aborted) return code()
    return badLines > 0 ? TASK_EXIT.failure.number : TASK_EXIT.ok.number
  } catch (error) {
    throw toTaskCliError(error)
  } finally {
    await store?.close()
  }
}
