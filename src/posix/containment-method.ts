/**
 * By what means the processes that we start, and whatever these start, are found again. Chosen once, by trying: what a
 * machine claims to have is often not allowed in a container.
 *
 * 1. `cgroup2`: a control group. Nothing can leave it, and the kernel kills all of it at once.
 * 2. `cgroup1`: the same with the older control groups; ours are killed one by one.
 * 3. `proc`: /proc is looked at again and again (census.ts). What cuts all its ties between two looks is not found.
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
  /** Where groups of ours can be made. */
  readonly parent?: string
}

/** How long a trial may take, in ms; on a machine that is slower than this the next means is taken. */
const TRIAL_LIMIT = 5_000

/** Enters the group whose file is `$1`, and runs until it is killed. */
const TRIAL_SCRIPT = 'echo 0 >"$1" && echo in && read -r _'

let chosen: Promise<ContainmentMethod> | undefined
let known: ContainmentKind | undefined

/**
 * The best means of this machine, or the one that MANYHOST_CONTAINMENT names.
 * @throws ManyhostError MANYHOST_INVALID_OPTION: the one that is named is not to be had here
 */
export function chooseContainmentMethod(): Promise<ContainmentMethod> {
  chosen ??= selectContainmentMethod(process.env.MANYHOST_CONTAINMENT || undefined).then(
    (means) => {
      known = means.kind
      return means
    },
  )
  return chosen
}

/** For logs: the means that was chosen; nothing before the first process was started. */
export function chosenContainmentKind(): ContainmentKind | undefined {
  return known
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
    `MANYHOST_CONTAINMENT=${named} cannot be had on this machine: ${reasons.join('; ') || 'it has none'}`,
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

/** Whether a process enters a group there, and is ended by killing the group; else why not. */
async function findCgroupProblem(parent: string): Promise<string | undefined> {
  let group: Cgroup | undefined
  let child: ChildProcess | undefined
  try {
    group = Cgroup.create(parent)
    const made = spawn('/bin/sh', ['-c', TRIAL_SCRIPT, 'manyhost-trial', group.procsFile], {
      detached: true,
      env: {},
      cwd: '/',
      stdio: ['pipe', 'pipe', 'ignore'],
    })
    child = made
    const exited = new Promise<string | null>((resolve) => {
      made.once('exit', (_, signal) => resolve(signal))
      made.once('error', () => resolve(null))
    })
    made.stdin.on('error', () => {})
    const isIn = once(made.stdout, 'data').then(() => true)
    isIn.catch(() => {})
    const entered = await resolveWithin(TRIAL_LIMIT, Promise.race([isIn, exited.then(() => false)]))
    if (!entered) return `a process cannot enter ${parent}`
    if (!group.pids.includes(made.pid as number)) return `${parent} does not tell its processes`
    if (!(await group.remove())) return `a group in ${parent} cannot be removed`
    const signal = await resolveWithin(TRIAL_LIMIT, exited)
    return signal === 'SIGKILL' ? undefined : `a group in ${parent} cannot be killed`
  } catch (error) {
    return describeError(error)
  } finally {
    child?.kill('SIGKILL')
    await group?.remove().catch(() => {})
  }
}
