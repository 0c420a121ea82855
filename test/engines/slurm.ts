/** A Slurm cluster of three nodes that are all this machine: munge, controller, nodes, slurmrestd; in a folder. */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { waitUntil } from '../providers/process-help.ts'
import { freePorts } from './ports.ts'

const call = promisify(execFile)

const CGROUPS = '/sys/fs/cgroup/memory'

/** Whether jobs are held to their memory: slurmd makes its groups by itself only in the first version of cgroups. */
export const LIMITS = mayMakeGroups()

function mayMakeGroups(): boolean {
  const tried = join(CGROUPS, `manyhost-${process.pid}`)
  try {
    mkdirSync(tried)
    const isFirst = existsSync(join(tried, 'memory.oom_control'))
    rmdirSync(tried)
    return isFirst
  } catch {
    return false
  }
}

export interface SlurmCluster {
  readonly folder: string
  readonly conf: string
  readonly nodes: readonly string[]
  /** Runs one of Slurm's commands, and answers with what it printed. */
  run(command: string, ...args: string[]): Promise<string>
  /** The controller, which may be halted; a node, which may be killed. */
  readonly controller: () => ChildProcess
  node(name: string): ChildProcess
  startNode(name: string): void
  startRest(): Promise<string>
  /** Over TCP, for those that have a token. */
  startRestWithTokens(): Promise<string>
  close(): Promise<void>
}

export async function openSlurm({ cpus = 16, conf: more = '' } = {}): Promise<SlurmCluster> {
  const folder = mkdtempSync(join(tmpdir(), 'mh-slurm-'))
  const file = (name: string): string => join(folder, name)
  // Their names are those of their groups of processes, too, which are the machine's.
  const nodes = [1, 2, 3].map((number) => `n${number}-${process.pid}`)
  const [control, ...ports] = await freePorts(1 + nodes.length)
  const conf = file('slurm.conf')
  writeFileSync(
    conf,
    `ClusterName=manyhost
SlurmctldHost=${hostname()}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=${file('munge.sock')}
CredType=cred/munge
SlurmctldPort=${control}
StateSaveLocation=${file('state')}
SlurmdSpoolDir=${file('spool-%n')}
SlurmctldPidFile=${file('slurmctld.pid')}
SlurmdPidFile=${file('slurmd-%n.pid')}
SlurmctldLogFile=${file('slurmctld.log')}
SlurmdLogFile=${file('slurmd-%n.log')}
ProctrackType=proctrack/linuxproc
TaskPlugin=${LIMITS ? 'task/cgroup' : 'task/none'}
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=64
PropagateResourceLimits=NONE
SlurmdParameters=config_overrides
ReturnToService=2
SlurmdTimeout=30
KillWait=5
MinJobAge=20
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
MpiDefault=none
SwitchType=switch/none
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key=${file('jwt.key')}
${nodes.map((name, i) => `NodeName=${name} NodeHostname=${hostname()} NodeAddr=127.0.0.1 Port=${ports[i]} CPUs=${cpus} RealMemory=8000`).join('\n')}
PartitionName=main Nodes=${nodes.join(',')} Default=YES MaxTime=60 State=UP OverSubscribe=NO
PartitionName=small Nodes=${nodes[0]} MaxTime=60 State=UP
${more}
`,
  )
  if (LIMITS) {
    writeFileSync(file('cgroup.conf'), 'CgroupPlugin=cgroup/v1\nConstrainRAMSpace=yes\n')
  }
  for (const name of ['state', ...nodes.map((one) => `spool-${one}`)]) {
    await call('mkdir', ['-p', file(name)])
  }
  await call('dd', ['if=/dev/urandom', `of=${file('munge.key')}`, 'bs=1024', 'count=1'])
  await call('dd', ['if=/dev/urandom', `of=${file('jwt.key')}`, 'bs=32', 'count=1'])
  await call('chmod', ['0600', file('munge.key'), file('jwt.key')])
  await call('chmod', ['0711', folder])
  const env = { ...process.env, SLURM_CONF: conf }
  const children: ChildProcess[] = []
  const begin = (command: string, args: string[], extra = {}): ChildProcess => {
    const child = spawn(command, args, { env: { ...env, ...extra }, stdio: 'ignore' })
    children.push(child)
    return child
  }
  const sbin = (name: string): string =>
    existsSync(`/usr/sbin/${name}`) ? `/usr/sbin/${name}` : name
  begin(sbin('munged'), [
    '--foreground',
    '--force',
    `--key-file=${file('munge.key')}`,
    `--socket=${file('munge.sock')}`,
    `--pid-file=${file('munged.pid')}`,
    `--log-file=${file('munged.log')}`,
    `--seed-file=${file('munge.seed')}`,
  ])
  await waitUntil(() => existsSync(file('munge.sock')), 20_000)
  const run = async (command: string, ...args: string[]): Promise<string> =>
    (await call(command, args, { env, maxBuffer: 16_777_216 })).stdout
  const controller = begin(sbin('slurmctld'), ['-D', '-c'])
  const daemons = new Map<string, ChildProcess>()
  const startNode = (name: string): void => {
    daemons.set(name, begin(sbin('slurmd'), ['-D', '-N', name]))
  }
  for (const name of nodes) startNode(name)
  const idle = async (): Promise<boolean> => {
    const states = await run('sinfo', '--noheader', '--Node', '--partition=main', '--format=%T')
    return states
      .trim()
      .split('\n')
      .every((state) => state === 'idle')
  }
  await waitUntil(idle, 60_000)
  return {
    folder,
    conf,
    nodes,
    run,
    controller: () => controller,
    node: (name) => daemons.get(name) as ChildProcess,
    startNode,
    startRest: async () => {
      begin(
        sbin('slurmrestd'),
        ['-a', 'rest_auth/local', '-s', 'openapi/v0.0.38', `unix:${file('rest.sock')}`],
        {
          SLURMRESTD_SECURITY: 'disable_user_check',
        },
      )
      await waitUntil(() => existsSync(file('rest.sock')), 20_000)
      return `unix:${file('rest.sock')}`
    },
    startRestWithTokens: async () => {
      const [port = 0] = await freePorts(1)
      const args = ['-a', 'rest_auth/jwt', '-s', 'openapi/v0.0.38', `127.0.0.1:${port}`]
      begin(sbin('slurmrestd'), args, {
        SLURM_JWT: 'daemon',
        SLURMRESTD_SECURITY: 'disable_user_check',
      })
      const url = `http://127.0.0.1:${port}`
      await waitUntil(() => fetch(url).then(() => true))
      return url
    },
    close: async () => {
      controller.kill('SIGCONT')
      await run('scancel', '--quiet', '--me').catch(() => {})
      await waitUntil(async () => (await run('squeue', '--noheader')).trim() === '', 20_000).catch(
        () => {},
      )
      for (const child of children.reverse()) await ended(child)
      if (LIMITS) for (const name of nodes) clear(join(CGROUPS, `slurm_${name}`))
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), 5_000)
  await exited
  clearTimeout(timer)
}

/** What slurmd leaves of its groups, which are empty by now: innermost first. */
function clear(path: string): void {
  if (!existsSync(path)) return
  for (const one of readdirSync(path, { withFileTypes: true })) {
    if (one.isDirectory()) clear(join(path, one.name))
  }
  rmdirSync(path)
}
