/** Uses Slurm by its commands sbatch, squeue and scancel. They run without a shell; the script goes in by standard input. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { asError } from '../../src/core/errors.ts'
import type { SlurmController, SlurmJob, SlurmSubmission } from './controller.ts'
import type { SlurmSettings } from './options.ts'

/** Longest time of a command, in ms. While the controller of Slurm is away, its commands wait and try again. */
const COMMAND_TIMEOUT = 30_000

/** Longest output of a command, in bytes: squeue prints all jobs of a user. */
const MAX_OUTPUT_BYTES = 64 * 1_048_576

const UNIT_SEPARATOR = '\x1f'

export class SlurmCommands implements SlurmController {
  readonly #settings: SlurmSettings

  constructor(settings: SlurmSettings) {
    this.#settings = settings
  }

  async submit({ name, script, comment, cpus, memory }: SlurmSubmission): Promise<string> {
    const {
      partition,
      account,
      qos,
      constraint,
      timeLimit,
      drainBefore,
      extra = [],
    } = this.#settings
    const given: Record<string, string | number | undefined> = {
      'job-name': name,
      comment,
      partition,
      account,
      qos,
      constraint,
      time: timeLimit,
      signal: `B:USR1@${drainBefore}`,
      'cpus-per-task': cpus,
      mem: memory === undefined ? undefined : `${Math.ceil(memory / 1024)}K`,
      output: '/dev/null',
      chdir: '/',
    }
    const args = Object.entries(given)
      .filter(([, value]) => value !== undefined)
      .map(([option, value]) => `--${option}=${value}`)
    const all = ['--parsable', '--no-requeue', '--ntasks=1', ...args, ...extra]
    const printed = await this.#runCommand('sbatch', all, script)
    const id = /^\d+/.exec(printed.trim())?.[0]
    if (id === undefined) {
      throw new Error(`sbatch did not print the number of a job, but '${printed.slice(0, 200)}'`)
    }
    return id
  }

  async listJobs(): Promise<readonly SlurmJob[]> {
    const format = ['%A', '%j', '%T', '%r', '%k'].join(UNIT_SEPARATOR)
    const printed = await this.#runCommand('squeue', [
      '--me',
      '--noheader',
      '--states=all',
      `--format=${format}`,
    ])
    return printed.split('\n').flatMap((line) => {
      const [id, name = '', state = '', reason = '', comment = ''] = line.split(UNIT_SEPARATOR)
      return id ? [{ id, name, state, reason, comment }] : []
    })
  }

  async cancel(ids: readonly string[], force: boolean): Promise<void> {
    if (ids.length === 0) return
    // A pending job has no processes for the signal, so its failure does not count.
    if (force)
      await this.#runCommand('scancel', ['--quiet', '--signal=KILL', '--full', ...ids]).catch(
        () => {},
      )
    await this.#runCommand('scancel', ['--quiet', ...ids])
  }

  #runCommand(command: string, args: readonly string[], input = ''): Promise<string> {
    const { bin, conf } = this.#settings
    const env = { ...jobEnvironment(), ...(conf && { SLURM_CONF: conf }) }
    return new Promise((resolve, reject) => {
      const child = execFile(
        bin === undefined ? command : join(bin, command),
        args,
        { env, timeout: COMMAND_TIMEOUT, maxBuffer: MAX_OUTPUT_BYTES, killSignal: 'SIGKILL' },
        (error, stdout, stderr) => {
          if (!error) return resolve(stdout)
          const errors = stderr.trim().slice(-1_000)
          const why = error.killed
            ? `it did not end within ${COMMAND_TIMEOUT} ms`
            : asError(error).message
          reject(new Error(`${command}: ${errors || why}`, { cause: error }))
        },
      )
      child.stdin?.on('error', () => {})
      child.stdin?.end(input)
    })
  }
}

/**
 * The environment of the commands. A job gets the environment of sbatch, which the controller keeps, and our own may hold
 * secrets. (`--export=NONE` would not do: it makes the node log in as the user, and wait for that.)
 */
export function jobEnvironment(): Record<string, string> {
  const kept = /^(PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|SLURM_CONF|MUNGE_SOCKET)$/
  return Object.fromEntries(
    Object.entries(process.env).filter((entry): entry is [string, string] => kept.test(entry[0])),
  )
}
