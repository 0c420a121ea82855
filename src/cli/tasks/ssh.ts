/** Runners on machines that can be reached by SSH. */
import { type SshOptions, ssh } from '../../../providers/ssh/index.ts'
import { deferred } from '../../core/deferred.ts'
import { describeError } from '../../core/errors.ts'
import type { Provider } from '../../core/provider.ts'
import { expandNodelist } from '../../tasks/text/nodelist.ts'
import { CliError } from '../exit.ts'
import { toTaskCliError } from './store.ts'
import type { SshFlags, TaskEnvironment } from './task-environment.ts'

/** After this many failed starts for each host, on average, the batch ends. */
const MAX_TRIES_PER_HOST = 5

type MutableSshOptions = { -readonly [Name in keyof SshOptions]: SshOptions[Name] }

/** `lists` are lists of hosts such as `a[01-03],b`. There is one runner for each host unless the flags set a number. */
export function openSshProvider(
  lists: readonly string[],
  { sshArgs = '' }: SshFlags,
): Pick<TaskEnvironment, 'options' | 'failed'> {
  const options: MutableSshOptions = { hosts: [] }
  const port = parseSshArgs(sshArgs, options)
  try {
    const hosts = lists.flatMap((one) => expandNodelist(one))
    options.hosts =
      port === undefined
        ? hosts
        : hosts.map((host) => (/:\d+$/.test(host) ? host : `${host}:${port}`))
    const { provider, failed } = failAfterTries(ssh(options), hosts.length)
    return { options: { provider, runners: hosts.length }, failed }
  } catch (error) {
    throw toTaskCliError(error)
  }
}

/**
 * A host that cannot be used is tried again, because it may be booting. If no host has ever started a runner after
 * `MAX_TRIES_PER_HOST` tries for each, `failed` rejects: otherwise the batch would wait for ever.
 */
function failAfterTries(
  provider: Provider,
  hosts: number,
): { readonly provider: Provider; readonly failed: Promise<never> } {
  let failures = 0
  let hasStarted = false
  const { promise: failed, reject: fail } = deferred<never>()
  failed.catch(() => {})
  const counting: Provider = {
    name: provider.name,
    capabilities: provider.capabilities,
    ...(provider.limit !== undefined && { limit: provider.limit }),
    async start(spec, how) {
      try {
        const running = await provider.start(spec, how)
        hasStarted = true
        return running
      } catch (error) {
        if (!how.signal.aborted && !hasStarted && ++failures >= MAX_TRIES_PER_HOST * hosts) {
          const text = `${describeError(error)}; no host could be used in ${failures} tries, so no host can run tasks`
          fail(new CliError('failure', text, { cause: error }))
        }
        throw error
      }
    },
    close: async () => provider.close?.(),
  }
  return { provider: counting, failed }
}

/** Sets `options` from arguments of the program `ssh`. Answers the port. @throws CliError for an unknown argument */
function parseSshArgs(text: string, options: MutableSshOptions): string | undefined {
  const words = text.split(/\s+/).filter((word) => word !== '')
  let port: string | undefined
  const take = (name: string, value: string): void => {
    if (name === 'i' || name === 'identityfile') options.key = value
    else if (name === 'l' || name === 'user') options.user = value
    else if (name === 'p' || name === 'port') port = value
    else if (name === 'userknownhostsfile') options.knownHosts = [value]
    else if (name === 'connecttimeout') options.connectTimeout = 1_000 * Number(value)
    else throw unknownArgumentError(name)
  }
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string
    const [, letter, rest] = /^-([a-zA-Z])(.*)$/.exec(word) ?? []
    const value = rest || words[++i]
    if (letter === undefined || value === undefined) throw unknownArgumentError(word)
    const [, key, set] = /^(\w+)=(.+)$/.exec(value) ?? []
    if (letter !== 'o') take(letter, value)
    else if (key === undefined || set === undefined) throw unknownArgumentError(value)
    else take(key.toLowerCase(), set)
  }
  return port
}

function unknownArgumentError(word: string): CliError {
  return new CliError(
    'usage',
    `--ssh-args: manyhost has its own SSH client, which takes -i, -l, -p, -o UserKnownHostsFile=, -o ConnectTimeout=; got ${word}`,
  )
}
