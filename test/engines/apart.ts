/**
 * A place for daemons that would change the machine: network, mounts and processes of its own, which all end with it,
 * also when the process that opened it is killed. From outside, its processes are seen and its addresses are reached.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { waitUntil } from '../providers/process-help.ts'

export interface Apart {
  /** Of that place, and of this machine as it is seen from there. */
  readonly address: string
  /** The first two bytes of networks within it that this machine has a way to. */
  readonly networks: string
  /** What it writes goes to `<name>.log`. */
  begin(command: string, args: readonly string[], name: string): ChildProcess
  close(): Promise<void>
}

/**
 * Its first process reaps what others leave behind, and lives as long as the pipe from us: the kernel then ends all the
 * others with it, and takes the mounts and the network back.
 */
const FIRST = `set -e
ip link set lo up
echo 1 > /proc/sys/net/ipv4/ip_forward
"$@"
echo ready
exec 3<&0
cat <&3 >/dev/null &
wait $!`

/** @param prepare is run by its shell, as root within, before anything else is. */
export async function openApart(folder: string, prepare: string): Promise<Apart> {
  const own = ['--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc']
  const child = spawn(
    'unshare',
    [...own, '--propagation=private', 'sh', '-c', FIRST, 'sh', 'sh', '-ec', prepare],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  )
  let said = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
  }
  const isReady = (): boolean => {
    if (child.exitCode !== null) throw new Error(said)
    return said.endsWith('ready\n')
  }
  await waitUntil(isReady, 20_000)
  const first = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim()
  const [link, peer] = [`mh${process.pid}k`, `mh${process.pid}l`]
  const third = process.pid % 250
  const [near, address] = [`10.214.${third}.1`, `10.214.${third}.2`]
  const networks = `10.${215 + (process.pid % 40)}`
  const ip = (...args: string[]): Buffer => execFileSync('ip', args)
  const within = ['nsenter', '--target', first, '--mount', '--net', '--pid']
  ip('link', 'add', link, 'type', 'veth', 'peer', 'name', peer, 'netns', first)
  ip('addr', 'add', `${near}/30`, 'dev', link)
  ip('link', 'set', link, 'up')
  for (const args of [
    ['addr', 'add', `${address}/30`, 'dev', peer],
    ['link', 'set', peer, 'up'],
    ['route', 'add', 'default', 'via', near],
  ]) {
    execFileSync('nsenter', ['--target', first, '--net', 'ip', ...args])
  }
  ip('route', 'add', `${networks}.0.0/16`, 'via', address)
  const begun: ChildProcess[] = []
  return {
    address,
    networks,
    begin: (command, args, name) => {
      const log = openSync(join(folder, `${name}.log`), 'a')
      const [tool = '', ...more] = [...within, command, ...args]
      const one = spawn(tool, more, { stdio: ['ignore', log, log] })
      begun.push(one)
      return one
    },
    close: async () => {
      if (child.exitCode !== null) return
      const exited = once(child, 'exit')
      child.stdin.end()
      // Where one within was halted, so is what began it: it would never take note of the end.
      for (const one of begun) one.kill('SIGKILL')
      await exited
    },
  }
}
