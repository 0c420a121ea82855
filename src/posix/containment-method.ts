/**
 * The method by which we find all processes that we start, and all that these start. The best method of the machine is
 * chosen once, by trying each: a container often forbids what its machine seems to offer.
 *
 * 1. `cgroup2`: control groups of version 2. No process can leave its group, and the kernel kills a group at once.
 * 2. `cgroup1`: control groups of version 1. Their processes are killed one by one.
 * 3. `proc`: repeated scans of /proc (process-tracker.ts). A process that cuts all ties between two scans is not found.
 * 4. `groups`: process groups alone, where there is no /proc.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { describeError, ManyhostError } from '../core/errors.ts'
import { resolveWithin } from '../core/time.ts'
import { Cgroup, ownCgroupFolders, removeAbandonedCgroups } from './cgroup.ts'
import { listProcesses } from './proc.ts'

const CONTAINMENT_KINDS = ['cgroup2', 'cgroup1', 'proc', 'groups'] as const

export type ContainmentKind = (typeof CONTAINMENT_KINDS)[number]

export interface ContainmentMethod {
  readonly kind: ContainmentKind
  /** The folder in which control groups can be created. */
  readonly parent?: string
}

/** How long the trial of one method may take, in ms. On a slower machine the next method is tried. */
const TRIAL_TIMEOUT = 5_000

/** Enters the control group whose `cgroup.procs` is `$1`, and runs until it is killed. */
const TRIAL_SCRIPT = 'echo 0 >"$1" && echo in && read -r _'

let chosen: Promise<ContainmentMethod> | undefined
let chosenKind: ContainmentKind | undefined

/**
 * The best method of this machine, or the one that the environment variable MANYHOST_CONTAINMENT names.
 * @throws ManyhostError MANYHOST_INVALID_OPTION if the named method does not exist, or does not work on this machine
 */
export function chooseContainmentMethod(): Promise<ContainmentMethod> {
  chosen ??= selectContainmentMethod(process.env.MANYHOST_CONTAINMENT || undefined).then(
    (method) => {
      chosenKind = method.kind
      return method
    },
  )
  return chosen
}

/** For logs: the method that was chosen; undefined before the first process was started. */
export function chosenContainmentKind(): ContainmentKind | undefined {
  return chosenKind
}

export async function selectContainmentMethod(
  named: string | undefined,
): Promise<ContainmentMethod> {
  if (named !== undefined && !CONTAINMENT_KINDS.includes(named as ContainmentKind)) {
    throw new ManyhostError(
      'MANYHOST_INVALID_OPTION',
      `MANYHOST_CONTAINMENT must be one of ${CONTAINMENT_KINDS.join(', ')}, got '${named.slice(0, 100)}'`,
    )
  }
  const reasons: string[] = []
  for (const kind of named === undefined ? CONTAINMENT_KINDS : [named as ContainmentKind]) {
    const found = await tryContainmentKind(kind, reasons)
    if (found) return found
  }
  throw new ManyhostError(
    'MANYHOST_INVALID_OPTION',
    `MANYHOST_CONTAINMENT=${named} does not work on this machine: ${reasons.join('; ') || 'the system has no such thing'}`,
  )
}

async function tryContainmentKind(
  kind: ContainmentKind,
  reasons: string[],
): Promise<ContainmentMethod | undefined> {
  if (kind === 'groups') return { kind }
  if (process.platform !== 'linux') return undefined
  if (kind === 'proc') return listProcesses().length > 0 ? { kind } : undefined
  for (const parent of ownCgroupFolders(kind === 'cgroup2' ? 2 : 1)) {
    const problem = await findCgroupProblem(parent)
    if (problem === undefined) {
      void removeAbandonedCgroups(parent).catch(() => {})
      return { kind, parent }
    }
    reasons.push(problem)
  }
  return undefined
}

/** Why control groups in the folder cannot be used; undefined if a process enters a group and dies with it. */
async function findCgroupProblem(parent: string): Promise<string | undefined> {
  let group: Cgroup | undefined
  let child: ChildProcess | undefined
  try {
    group = Cgroup.create(parent)
    const trial = spawn('/bin/sh', ['-c', TRIAL_SCRIPT, 'manyhost-trial', group.procsFile], {
      detached: true,
      env: {},
      cwd: '/',
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    child = trial
    const exited = new Promise<string | null>((resolve) => {
      trial.once('exit', (_, signal) => resolve(signal))
      trial.once('error', () => resolve(null))
    })
    trial.stdin.on('error', () => {})
    const isInside = once(trial.stdout, 'data').then(() => true)
    isInside.catch(() => {})
    const hasEntered = await resolveWithin(
      TRIAL_TIMEOUT,
      Promise.race([isInside, exited.then(() => false)]),
    )
    if (!hasEntered) return `a process cannot enter a group in ${parent}`
    if (!group.pids.includes(trial.pid as number)) {
      return `a group in ${parent} does not list its processes`
    }
    if (!(await group.remove())) return `a group in ${parent} cannot be removed`
    const signal = await resolveWithin(TRIAL_TIMEOUT, exited)
    return signal === 'SIGKILL' ? undefined : `a group in ${parent} cannot be killed`
  } catch (error) {
    return describeError(error)
  } finally {
    child?.kill('SIGKILL')
    await group?.remove().catch(() => {})
  }
}
