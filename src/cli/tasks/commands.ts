/** The table of the commands of `manyhost tasks`. */
import { type CliCommand, type CliOption, markCommandLineOnly } from '../command.ts'
import { parseInteger, parsePositiveDuration, parseWholeNumber } from '../option-values.ts'
import { PARTITIONS_OPTION, SERVER_OPTIONS, STORE_OPTION } from './options.ts'
import { SERVING_COMMANDS } from './serving-commands.ts'

const FILTER_OPTIONS: readonly CliOption[] = markCommandLineOnly([
  {
    flags: '-w, --where <condition...>',
    meaning: "condition such as 'exit_status != 0', with == != > >= < <= ~",
    isRepeatable: true,
  },
  {
    flags: '-t, --with-tag <tag...>',
    meaning: 'only tasks with this tag: key or key:value',
    isRepeatable: true,
  },
  { flags: '-g, --group <number>', meaning: 'only tasks of this group', parse: parseInteger },
  { flags: '-F, --failed', meaning: 'only tasks with an exit status other than 0' },
  { flags: '-S, --succeeded', meaning: 'only tasks with exit status 0' },
  { flags: '-C, --completed', aliases: ['--finished'], meaning: 'only tasks with an outcome' },
  { flags: '-R, --remaining', meaning: 'only tasks without an outcome' },
  { flags: '--retries', meaning: 'only second and later attempts' },
  { flags: '-s, --order-by <field>', meaning: 'field to sort by; time of submission unless given' },
  { flags: '--desc', meaning: 'sort in descending order' },
  {
    flags: '-l, --limit <number>',
    meaning: 'maximum number of tasks',
    parse: parseWholeNumber,
  },
])

const ONE_TASK_OPTIONS: readonly CliOption[] = [
  {
    flags: '-f, --format <format>',
    meaning: 'format of the output',
    choices: ['normal', 'json', 'yaml'],
  },
  ...markCommandLineOnly([
    { flags: '--json', meaning: 'same as -f json' },
    { flags: '--yaml', meaning: 'same as -f yaml' },
  ]),
]

const TASK_ID_ARGUMENT = { name: '<id>', meaning: 'id of the task' } as const

export const TASK_COMMANDS: readonly CliCommand[] = [
  ...SERVING_COMMANDS,
  {
    name: 'list',
    group: 'Look',
    whenUnread: 'end',
    args: [{ name: '[field...]', meaning: 'fields to print; all fields unless given' }],
    summary: 'list tasks, count them, or print their tags',
    options: [
      STORE_OPTION,
      ...FILTER_OPTIONS,
      ...markCommandLineOnly([
        {
          flags: '--offset <number>',
          meaning: 'number of tasks to leave out at the beginning',
          parse: parseWholeNumber,
        },
      ]),
      {
        flags: '-f, --format <format>',
        meaning: 'format of the output; normal unless given, or plain if fields are given',
        choices: ['normal', 'plain', 'table', 'csv', 'json'],
      },
      ...markCommandLineOnly([
        { flags: '--json', meaning: 'same as -f json' },
        { flags: '--csv', meaning: 'same as -f csv' },
      ]),
      { flags: '-d, --delimiter <text>', meaning: 'delimiter of the fields of plain and csv' },
      ...markCommandLineOnly([
        { flags: '-c, --count', meaning: 'print only the number of tasks' },
        { flags: '--fields', meaning: 'print the names of the fields' },
        { flags: '--tag-keys', meaning: 'print the keys of all tags' },
        { flags: '--tag-values <key>', meaning: 'print the values of this tag' },
      ]),
      PARTITIONS_OPTION,
    ],
    examples: [
      ["manyhost tasks list id args -w 'exit_status != 0'", 'tasks that failed'],
      ['manyhost tasks list -t site:b --remaining --count', 'how many tasks with a tag are left'],
      [
        'manyhost tasks list id duration -s duration --desc -l 10 -f table',
        'the ten slowest tasks',
      ],
    ],
    load: () => import('./list.ts'),
  },
  {
    name: 'info',
    group: 'Look',
    whenUnread: 'end',
    args: [TASK_ID_ARGUMENT],
    summary: 'print the fields or the output of one task',
    options: [
      STORE_OPTION,
      ...SERVER_OPTIONS,
      ...ONE_TASK_OPTIONS,
      ...markCommandLineOnly([
        { flags: '-x, --extract <field>', meaning: 'print only this field' },
        { flags: '--stdout', meaning: 'print the captured output' },
        { flags: '--stderr', meaning: 'print the captured error output' },
        { flags: '--perf', meaning: 'print the use of cores and memory, as CSV' },
      ]),
      PARTITIONS_OPTION,
    ],
    examples: [
      ['manyhost tasks info 01938c3e-... --yaml', 'all fields'],
      ['manyhost tasks info 01938c3e-... -x exit_status', 'one field'],
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
      {
        flags: '-n, --interval <seconds>',
        meaning: 'interval of polls of the store',
        parse: parsePositiveDuration,
      },
      ...markCommandLineOnly([
        { flags: '-i, --info', meaning: 'print the task at the end' },
        { flags: '-s, --status', meaning: 'print the exit status at the end' },
        { flags: '-r, --return', meaning: 'end with the exit status of the task' },
      ]),
    ],
    examples: [['manyhost tasks wait 01938c3e-... -r', 'ends with the exit status of the task']],
    load: () => import('./wait.ts'),
  },
  {
    name: 'update',
    group: 'Steer',
    args: [
      { name: '[change...]', meaning: 'change of a field or a tag: field=value or tag:value' },
    ],
    summary: 'change, cancel, revert or delete tasks',
    options: [
      STORE_OPTION,
      ...FILTER_OPTIONS,
      ...markCommandLineOnly([
        { flags: '--cancel', meaning: 'give the tasks exit status -1' },
        { flags: '--revert', meaning: 'put the tasks back into the queue' },
        { flags: '--delete', meaning: 'remove the tasks' },
        { flags: '--remove-tag <key...>', meaning: 'tag to remove', isRepeatable: true },
        { flags: '-f, --no-confirm', meaning: 'do not ask for confirmation' },
      ]),
    ],
    examples: [
      ['manyhost tasks update --revert --failed', 'runs failed tasks again'],
      ['manyhost tasks update group=2 urgent:yes -t site:b', 'changes tasks with a tag'],
      [
        'manyhost tasks update --cancel --remaining -f',
        'cancels all remaining tasks without asking',
      ],
      [
        'manyhost tasks update --delete -S -s completion_time -l 1000',
        'removes the 1000 tasks that ended first',
      ],
    ],
    load: () => import('./update.ts'),
  },
  {
    name: 'initdb',
    group: 'Steer',
    summary: 'create and maintain the store',
    options: [
      STORE_OPTION,
      ...markCommandLineOnly([
        { flags: '-v, --vacuum', meaning: 'give unused space back' },
        { flags: '-b, --backup <path>', meaning: 'copy the store to this path' },
        { flags: '-r, --rotate', meaning: 'move tasks with an outcome into a partition' },
        { flags: '-t, --truncate', meaning: 'remove all tasks' },
        { flags: '-y, --yes', meaning: 'do not ask for confirmation' },
      ]),
    ],
    examples: [
      ['manyhost tasks initdb', 'creates the store, or migrates it to this version'],
      [
        'manyhost tasks initdb --backup today.db --rotate',
        'copies the store, then moves tasks with an outcome',
      ],
    ],
    load: () => import('./initdb.ts'),
  },
]
