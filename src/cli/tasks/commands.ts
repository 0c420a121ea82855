/** The commands below `manyhost tasks`: the same form of table as that of the others. */
import { parseTaskDuration } from '../../tasks/text/units.ts'
import { type CliCommand, type CliOption, markCommandLineOnly } from '../command.ts'
import { parseCount, parseInteger } from './numbers.ts'
import { PARTITIONS_OPTION, SERVER_OPTIONS, STORE_OPTION } from './options.ts'
import { SERVING_COMMANDS } from './serving-commands.ts'

const FILTER_OPTIONS: readonly CliOption[] = markCommandLineOnly([
  {
    flags: '-w, --where <condition...>',
    meaning: "such as 'exit_status != 0', with == != > >= < <= ~",
    isRepeatable: true,
  },
  { flags: '-t, --with-tag <tag...>', meaning: 'key or key:value', isRepeatable: true },
  { flags: '-g, --group <number>', meaning: 'of this group alone', parse: parseInteger },
  { flags: '-F, --failed', meaning: 'with an exit status other than 0' },
  { flags: '-S, --succeeded', meaning: 'with exit status 0' },
  { flags: '-C, --completed', aliases: ['--finished'], meaning: 'with any outcome' },
  { flags: '-R, --remaining', meaning: 'without an outcome' },
  { flags: '--retries', meaning: 'second and later attempts' },
  { flags: '-s, --order-by <field>', meaning: 'sort by it; by submission without' },
  { flags: '--desc', meaning: 'the other way round' },
  { flags: '-l, --limit <number>', meaning: 'so many at most, the first ones', parse: parseCount },
])

const ONE_TASK_OPTIONS: readonly CliOption[] = [
  {
    flags: '-f, --format <format>',
    meaning: 'how it is printed',
    choices: ['normal', 'json', 'yaml'],
  },
  ...markCommandLineOnly([
    { flags: '--json', meaning: 'as -f json' },
    { flags: '--yaml', meaning: 'as -f yaml' },
  ]),
]

const TASK_ID_ARGUMENT = { name: '<id>', meaning: 'id of the task' } as const

export const TASK_COMMANDS: readonly CliCommand[] = [
  ...SERVING_COMMANDS,
  {
    name: 'list',
    group: 'Look',
    whenUnread: 'end',
    args: [{ name: '[field...]', meaning: 'what to print of each; all without' }],
    summary: 'list tasks, count them, or print what tags there are',
    options: [
      STORE_OPTION,
      ...FILTER_OPTIONS,
      ...markCommandLineOnly([
        { flags: '--offset <number>', meaning: 'leave out so many', parse: parseCount },
      ]),
      {
        flags: '-f, --format <format>',
        meaning: 'normal, or plain where fields are given, unless said',
        choices: ['normal', 'plain', 'table', 'csv', 'json'],
      },
      ...markCommandLineOnly([
        { flags: '--json', meaning: 'as -f json' },
        { flags: '--csv', meaning: 'as -f csv' },
      ]),
      { flags: '-d, --delimiter <text>', meaning: 'between the fields of plain and csv' },
      ...markCommandLineOnly([
        { flags: '-c, --count', meaning: 'print how many there are' },
        { flags: '--fields', meaning: 'print the names of the fields' },
        { flags: '--tag-keys', meaning: 'print the keys of tags' },
        { flags: '--tag-values <key>', meaning: 'print the values of a tag' },
      ]),
      PARTITIONS_OPTION,
    ],
    examples: [
      ["manyhost tasks list id args -w 'exit_status != 0'", 'what failed'],
      ['manyhost tasks list -t site:b --remaining --count', 'how many of a tag are to be done'],
      ['manyhost tasks list id duration -s duration --desc -l 10 -f table', 'the slowest ten'],
    ],
    load: () => import('./list.ts'),
  },
  {
    name: 'info',
    group: 'Look',
    whenUnread: 'end',
    args: [TASK_ID_ARGUMENT],
    summary: 'print all of one task, or what it wrote',
    options: [
      STORE_OPTION,
      ...SERVER_OPTIONS,
      ...ONE_TASK_OPTIONS,
      ...markCommandLineOnly([
        { flags: '-x, --extract <field>', meaning: 'this field alone' },
        { flags: '--stdout', meaning: 'its captured output' },
        { flags: '--stderr', meaning: 'its captured errors' },
        { flags: '--perf', meaning: 'its use of cores and memory, as CSV' },
      ]),
      PARTITIONS_OPTION,
    ],
    examples: [
      ['manyhost tasks info 01938c3e-... --yaml', 'all fields'],
      ['manyhost tasks info 01938c3e-... -x exit_status', 'one of them'],
    ],
    load: () => import('./info.ts'),
  },
  {
    name: 'wait',
    group: 'Look',
    args: [TASK_ID_ARGUMENT],
    summary: 'wait until a task has its outcome',
    options: [
      STORE_OPTION,
      ...ONE_TASK_OPTIONS,
      { flags: '-n, --interval <seconds>', meaning: 'between two looks', parse: parseTaskDuration },
      ...markCommandLineOnly([
        { flags: '-i, --info', meaning: 'print the task then' },
        { flags: '-s, --status', meaning: 'print its exit status then' },
        { flags: '-r, --return', meaning: 'end with its exit status' },
      ]),
    ],
    examples: [['manyhost tasks wait 01938c3e-... -r', 'ends as the task did']],
    load: () => import('./wait.ts'),
  },
  {
    name: 'update',
    group: 'Steer',
    args: [{ name: '[change...]', meaning: 'field=value or tag:value' }],
    summary: 'change, cancel, revert or delete tasks',
    options: [
      STORE_OPTION,
      ...FILTER_OPTIONS,
      ...markCommandLineOnly([
        { flags: '--cancel', meaning: 'give them exit status -1' },
        { flags: '--revert', meaning: 'put them back into the queue' },
        { flags: '--delete', meaning: 'remove them' },
        { flags: '--remove-tag <key...>', meaning: 'take a tag away', isRepeatable: true },
        { flags: '-f, --no-confirm', meaning: 'do not ask' },
      ]),
    ],
    examples: [
      ['manyhost tasks update --revert --failed', 'try again what failed'],
      ['manyhost tasks update group=2 urgent:yes -t site:b', 'change what has a tag'],
      ['manyhost tasks update --cancel --remaining -f', 'cancel all that is left, unasked'],
      [
        'manyhost tasks update --delete -S -s completion_time -l 1000',
        'remove what ended the longest ago',
      ],
    ],
    load: () => import('./update.ts'),
  },
  {
    name: 'initdb',
    group: 'Steer',
    summary: 'make the store, and keep it in order',
    options: [
      STORE_OPTION,
      ...markCommandLineOnly([
        { flags: '-v, --vacuum', meaning: 'give space back' },
        { flags: '-b, --backup <path>', meaning: 'copy it' },
        { flags: '-r, --rotate', meaning: 'move what is over into a partition' },
        { flags: '-t, --truncate', meaning: 'remove all tasks' },
        { flags: '-y, --yes', meaning: 'do not ask' },
      ]),
    ],
    examples: [
      ['manyhost tasks initdb', 'make it, or bring it to this version'],
      ['manyhost tasks initdb --backup today.db --rotate', 'copy it, then move what is over'],
    ],
    load: () => import('./initdb.ts'),
  },
]
