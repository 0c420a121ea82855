/** `manyhost config ...`: the files that have defaults of the commands of tasks. */
import type { CliCommand, CliOption } from '../command.ts'

const KEY = { name: '<key>', meaning: 'such as cluster.maxRetries, or tasks.store' } as const

const SCOPES: readonly CliOption[] = [
  { flags: '--system', meaning: 'that of this machine, /etc/manyhost/tasks.yaml' },
  { flags: '--user', meaning: 'your own' },
  { flags: '--local', meaning: 'that of this folder, ./.manyhost/tasks.yaml' },
]

export const CONFIG_COMMANDS: readonly CliCommand[] = [
  {
    name: 'config get',
    group: 'Look',
    whenUnread: 'end',
    args: [{ name: '[key]', meaning: 'a key, or a section; all without' }],
    summary: 'print what is set, by all files and the environment, or by one file',
    options: [
      ...SCOPES,
      {
        flags: '-x, --expand',
        // biome-ignore lint/suspicious/noTemplateCurlyInString: that is how it is written
        meaning: 'with what ${...} stands for, secrets included',
      },
    ],
    examples: [
      ['manyhost config get', 'all that is set'],
      ['manyhost config get tasks.store', 'one of it'],
      ['manyhost config get cluster --user', 'a section of your own file'],
    ],
    load: () => import('./get.ts'),
  },
  {
    name: 'config which',
    group: 'Look',
    whenUnread: 'end',
    args: [KEY],
    summary: 'print what sets it: a file, or a variable of the environment',
    examples: [['manyhost config which cluster.maxRetries', 'the nearest that says it']],
    load: () => import('./which.ts'),
  },
  {
    name: 'config set',
    group: 'Steer',
    args: [KEY, { name: '<value...>', meaning: 'what it is to be; several where there may be' }],
    summary: 'change a file, your own unless another is named',
    options: SCOPES,
    examples: [
      ['manyhost config set cluster.maxRetries 2', 'in your own file'],
      [
        // biome-ignore lint/suspicious/noTemplateCurlyInString: that is how it is written
        "manyhost config set tasks.store 'postgres://me:${PGPASSWORD}@db/jobs'",
        'the password elsewhere',
      ],
      ['manyhost config set --local cluster.ssh a[01-03] b', 'a list, for this folder'],
    ],
    load: () => import('./set.ts'),
  },
  {
    name: 'config edit',
    group: 'Steer',
    summary: 'edit a file, your own unless another is named, with VISUAL or EDITOR',
    options: SCOPES,
    examples: [['manyhost config edit --local', 'that of this folder']],
    load: () => import('./edit.ts'),
  },
]
