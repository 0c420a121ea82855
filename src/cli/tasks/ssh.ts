/** Runners on machines that one can log in to. */
import { type SshOptions, ssh } from '../../../providers/ssh/index.ts'
import { expandNodelist } from '../../tasks/nodelist.ts'
import { CliError } from '../exit.ts'
import type { Ground } from './ground.ts'
import { exitFor } from './store.ts'

export interface SshFlags {
  readonly ssh?: readonly string[]
  readonly sshArgs?: string
}

type Changing = { -readonly [Name in keyof SshOptions]: SshOptions[Name] }

/** One on each, unless more are asked for. */
export function bySsh(lists: readonly string[], { sshArgs = '' }: SshFlags): Ground['options'] {
  const options: Changing = { hosts: [] }
  const port = readArgs(sshArgs, options)
  try {
    const hosts = lists.flatMap((one) => expandNodelist(one))
    options.hosts =
      port === undefined
        ? hosts
        : hosts.map((host) => (/:\d+$/.test(host) ? host : `${host}:${port}`))
    return { provider: ssh(options), runners: hosts.length }
  } catch (error) {
    throw exitFor(error)
  }
}

/** Of the arguments of the program `ssh` those that mean something without it. Answers the port. */
function readArgs(text: string, options: Changing): string | undefined {
  const words = text.split(/\s+/).filter((word) => word !== '')
  let port: string | undefined
  const take = (name: string, value: string): void => {
    if (name === 'i' || name === 'identityfile') options.key = value
    else if (name === 'l' || name === 'user') options.user = value
    else if (name === 'p' || name === 'port') port = value
    else if (name === 'userknownhostsfile') options.knownHosts = [value]
    else if (name === 'connecttimeout') options.connectTimeout = 1_000 * Number(value)
    else throw wrong(name)
  }
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string
    const [, letter, rest] = /^-([a-zA-Z])(.*)$/.exec(word) ?? []
    const value = rest || words[++i]
    if (letter === undefined || value === undefined) throw wrong(word)
    const [, key, set] = /^(\w+)=(.+)$/.exec(value) ?? []
    if (letter !== 'o') take(letter, value)
    else if (key === undefined || set === undefined) throw wrong(value)
    else take(key.toLowerCase(), set)
  }
  return port
}

function wrong(word: string): CliError {
  return new CliError(
    'usage',
    `--ssh-args: manyhost has its own ssh, which knows -i, -l, -p, -o UserKnownHostsFile=, ConnectTimeout=, not ${word}`,
  )
}
