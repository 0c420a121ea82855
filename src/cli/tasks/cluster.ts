/** `manyhost tasks cluster`: tasks from a file or standard input, to their end. */
import { createReadStream, createWriteStream, existsSync, type WriteStream } from 'node:fs'
import { ssh } from '../../../providers/ssh/index.ts'
import { describe } from '../../errors.ts'
import type { Provider } from '../../provider.ts'
import { expandNodelist } from '../../tasks/nodelist.ts'
import { parseTags } from '../../tasks/tags.ts'
import { type ClusterRunOptions, runCluster, type TaskRun, type TaskSource } from '../../tasks.ts'
import { CliError, EXIT } from '../exit.ts'
import { takeSignal } from '../interrupt.ts'
import { line, write } from '../terminal.ts'
import { Watch } from './progress.ts'
import { exitFor, type StoreFlags, storeOf } from './store.ts'

export interface ServingFlags extends StoreFlags {
  readonly db?: boolean
  readonly numTasks?: number
  readonly template?: string
  readonly bundlesize?: number
  readonly bundlewait?: number
  readonly maxRetries?: number
  readonly eager?: boolean
  readonly confirm?: boolean
  readonly evictAfter?: number
  readonly capture?: boolean
  readonly monitor?: boolean
  readonly output?: string
  readonly errors?: string
  readonly failures?: string
  readonly print?: boolean
  readonly maxCores?: number
  readonly maxMemory?: number
  readonly timeout?: number
  readonly taskTimeout?: number
  readonly signalwait?: number
  readonly ratelimit?: number
  readonly delayStart?: number
  readonly poll?: number
  readonly initSize?: number
  readonly autoscaling?: string | true
  readonly factor?: number
  readonly period?: number
  readonly minSize?: number
  readonly maxSize?: number
  readonly ssh?: readonly string[]
  readonly remoteExe?: string
  readonly cores?: number
  readonly memory?: number
  readonly group?: number
  readonly tag?: readonly string[]
  readonly fromJson?: boolean
  readonly forever?: boolean
  readonly restart?: boolean
}

export async function run(
  [file]: readonly (string | undefined)[],
  flags: ServingFlags,
): Promise<number> {
  if (flags.restart && file !== undefined) {
    throw new CliError('usage', '--restart works off what the store has left: give no file')
  }
  const source = flags.restart ? undefined : sourceOf(file, flags.forever === true)
  return serve(source, flags, { forever: flags.forever === true })
}

/** The lines to work off; none: only what the store has. @throws CliError */
export function sourceOf(file: string | undefined, mayBeNone: boolean): TaskSource | undefined {
  if (file !== undefined && file !== '-') {
    if (!existsSync(file)) throw new CliError('usage', `there is no file ${file}`)
    return createReadStream(file)
  }
  if (file === undefined && process.stdin.isTTY) {
    if (mayBeNone) return undefined
    throw new CliError(
      'usage',
      'no tasks: give a file, or pipe lines in (- reads from the terminal)',
    )
  }
  return process.stdin
}

/** Serves until it is over, or a signal ends it. */
export async function serve(
  source: TaskSource | undefined,
  flags: ServingFlags,
  more: ClusterRunOptions,
  onReady: (run: TaskRun) => Promise<void> = async () => {},
): Promise<number> {
  const outputs = new Printing(flags)
  const watch = new Watch()
  let bad = 0
  const options: ClusterRunOptions = {
    ...optionsOf(flags),
    ...more,
    onBad: ({ message }) => {
      bad++
      watch.say(message)
    },
    onProblem: (message) => watch.say(message),
    ...(!flags.capture &&
      !flags.print && {
        onOutput: (_task, stream, chunk) => {
          watch.clear()
          return outputs.write(stream, chunk)
        },
      }),
  }
  let started: TaskRun
  try {
    started = runCluster(source, options)
  } catch (error) {
    throw exitFor(error)
  }
  const interrupted = hear(started)
  watch.begin(started)
  try {
    await started.ready
    await onReady(started)
    for await (const { exitStatus, willRetry, args, message } of started) {
      if (exitStatus === 0 || willRetry) continue
      if (flags.print) await line(args)
      if (message !== undefined) watch.say(`${args.slice(0, 200)}: ${message}`)
    }
    const counts = await started
    watch.end(counts)
    await outputs.close()
    if (interrupted.code !== undefined) return interrupted.code
    return counts.failed + counts.cancelled + bad > 0 ? EXIT.failure.number : EXIT.ok.number
  } catch (error) {
    watch.end(started.counts)
    await outputs.close()
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') {
      throw new CliError('listen', describe(error), { cause: error })
    }
    throw exitFor(error)
  }
}

/** USR1 drains; USR2, TERM and Ctrl-C interrupt what runs and give it back, a second one ends at once. */
function hear(run: TaskRun): { code: number | undefined } {
  const heard: { code: number | undefined } = { code: undefined }
  process.on('SIGUSR1', () => run.drain())
  process.on('SIGUSR2', () => run.stop())
  const end = (code: number) => (): void => {
    if (heard.code !== undefined) process.exit(code)
    heard.code = code
    run.stop()
  }
  takeSignal('SIGINT', end(EXIT.interrupted.number))
  takeSignal('SIGTERM', end(EXIT.terminated.number))
  return heard
}

function optionsOf(flags: ServingFlags): ClusterRunOptions {
  const { autoscaling } = flags
  if (typeof autoscaling === 'string' && autoscaling !== 'fixed' && autoscaling !== 'dynamic') {
    throw new CliError('usage', `--autoscaling is fixed or dynamic, got ${autoscaling}`)
  }
  let tags: ReturnType<typeof parseTags> | undefined
  try {
    tags = flags.tag && parseTags(flags.tag)
  } catch (error) {
    throw exitFor(error)
  }
  return {
    ...(flags.db === false ? { inMemory: true } : { store: storeOf(flags) }),
    kind: flags.fromJson ? 'json' : 'command',
    places: flags.numTasks,
    template: flags.template,
    bundleSize: flags.bundlesize,
    bundleWait: flags.bundlewait,
    maxRetries: flags.maxRetries,
    eager: flags.eager,
    confirm: flags.confirm,
    evictAfter: flags.evictAfter,
    capture: flags.capture,
    monitor: flags.monitor,
    redirectFailures: flags.failures,
    cores: flags.maxCores,
    memory: flags.maxMemory,
    clientTimeout: flags.timeout,
    taskTimeout: flags.taskTimeout,
    signalWait: flags.signalwait,
    rate: flags.ratelimit,
    delayStart: flags.delayStart,
    poll: flags.poll,
    runners: flags.initSize,
    autoscaling: autoscaling === true ? 'dynamic' : (autoscaling as 'fixed' | 'dynamic'),
    factor: flags.factor,
    period: flags.period,
    minSize: flags.minSize,
    maxSize: flags.maxSize,
    taskCores: flags.cores,
    taskMemory: flags.memory,
    group: flags.group,
    tags,
    ...(flags.ssh && far(flags.ssh, flags)),
  }
}

/** Runners on other machines, one on each, unless more are asked for. */
function far(lists: readonly string[], { remoteExe, initSize }: ServingFlags): ClusterRunOptions {
  const hosts = lists.flatMap((one) => expandNodelist(one))
  const provider: Provider = ssh({ hosts })
  return {
    provider,
    runners: initSize ?? hosts.length,
    ...(remoteExe !== undefined && { runner: ['node', remoteExe] }),
  }
}

/** Outputs of tasks, to our own or to files. */
class Printing {
  readonly #streams: Record<'stdout' | 'stderr', WriteStream | NodeJS.WriteStream>
  readonly #files: WriteStream[] = []

  constructor({ output, errors }: ServingFlags) {
    this.#streams = {
      stdout: output === undefined ? process.stdout : this.#file(output),
      stderr: errors === undefined ? process.stderr : this.#file(errors),
    }
  }

  async write(stream: 'stdout' | 'stderr', chunk: Uint8Array): Promise<void> {
    await write(chunk, this.#streams[stream] as NodeJS.WriteStream)
  }

  async close(): Promise<void> {
    for (const file of this.#files) await new Promise((resolve) => file.end(() => resolve(null)))
  }

  #file(path: string): WriteStream {
    const file = createWriteStream(path, { flags: 'a' })
    this.#files.push(file)
    file.on('error', (error) => {
      process.stderr.write(`manyhost: ${path}: ${describe(error)}\n`)
      process.exit(EXIT.failure.number)
    })
    return file
  }
}
