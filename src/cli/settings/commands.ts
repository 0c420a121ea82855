/** The commands of `manyhost config`, about the files with defaults for the commands of tasks. */
import type { CliCommand, CliOption } from '../command.ts'

const KEY = { name: '<key>', meaning: 'such as cluster.maxRetries, or tasks.store' } as const

const SCOPES: readonly CliOption[] = [
  { flags: '--system', meaning: 'the file of this machine, /etc/manyhost/tasks.yaml' },
  { flags: '--user', meaning: 'the file of this user' },
  { flags: '--local', meaning: 'the file of this folder, ./.manyhost/tasks.yaml' },
]

export const CONFIG_COMMANDS: readonly CliCommand[] = [
  {
    name: 'config get',
    group: 'Look',
    whenUnread: 'end',
    args: [{ name: '[key]', meaning: 'a key, or a section; all keys unless given' }],
    summary: 'print the values that all files and the environment set, or one file',
    options: [
      ...SCOPES,
      {
        flags: '-x, --expand',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: that is how it is written
        meaning: 'replace each ${...} by its value, also secrets',
      },
    ],
    examples: [
      ['manyhost config get', 'all values'],
      ['manyhost config get tasks.store', 'one value'],
      ['manyhost config get cluster --user', 'a section of the file of this user'],
    ],
    load: () => import('./get.ts'),
  },
  {
    name: 'config which',
    group: 'Look',
    whenUnread: 'end',
    args: [KEY],
    summary: 'print what sets a key: a file, or an environment variable',
    examples: [
      ['manyhost config which cluster.maxRetries', 'the file or variable whose value counts'],
    ],
    load: () => import('./which.ts'),
  },
  {
    name: 'config set',
    group: 'Steer',
    args: [KEY, { name: '<value...>', meaning: 'new value; several words for a list' }],
    summary: 'change a value in a file; the file of this user unless another is given',
    options: SCOPES,
    examples: [
      ['manyhost config set cluster.maxRetries 2', 'in the file of this user'],
      [
        // biome-ignore lint/suspicious/noTemplateCurlyInString: that is how it is written
        "manyhost config set tasks.store 'postgres://me:${PGPASSWORD}@db/jobs'",
        'the password comes from the environment',
      ],
      ['manyhost config set --local cluster.ssh a[01-03] b', 'a list, in the file of this folder'],
    ],
    load: () => import('./set.ts'),
  },
  {
    name: 'config edit',
    group: 'Steer',
    summary: 'edit a file with VISUAL or EDITOR; the file of this user unless another is given',
    options: SCOPES,
    examples: [['manyhost config edit --local', 'the file of this folder']],
    load: () => import('./edit.ts'),
  },
]
