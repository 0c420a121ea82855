/** The commands that run tasks or submit them. */
import { type CliCommand, markCommandLineOnly } from '../command.ts'
import {
  parseDurationOption,
  parsePositiveDuration,
  parsePositiveInteger,
  parseWholeNumber,
} from '../option-values.ts'
import {
  PER_TASK_OPTIONS,
  REPLACED_CALLER_OPTIONS,
  REPLACED_LISTENER_OPTIONS,
  RUN_OPTIONS,
  SERVER_OPTIONS,
  STORE_OPTION,
  TOKEN_OPTIONS,
} from './options.ts'

const TASK_FILE_ARGUMENT = {
  name: '[file]',
  meaning: 'file with a task in each line; standard input unless given',
  completes: 'file',
} as const

/** Their names follow `manyhost tasks`. */
export const SERVING_COMMANDS: readonly CliCommand[] = [
  {
    name: 'cluster',
    group: 'Serve',
    args: [TASK_FILE_ARGUMENT],
    summary: 'run the tasks of a file or of standard input until all have an outcome',
    options: [
      ...RUN_OPTIONS,
      ...markCommandLineOnly([
        { flags: '--forever', meaning: 'do not end when no task is left' },
        {
          flags: '--restart',
          meaning: 'read no file, and run the tasks that earlier batches of this folder left',
        },
      ]),
    ],
    replacedOptions: [
      { flags: '-H, --host <address>', advice: 'give --bind ADDRESS:PORT' },
      { flags: '-p, --port <number>', advice: 'give --bind ADDRESS:PORT' },
      ...REPLACED_LISTENER_OPTIONS,
    ],
    examples: [
      [
        "cat files.txt | manyhost tasks cluster -N 8 -t 'convert {} {-}.jpg'",
        'runs eight tasks at the same time',
      ],
      ['manyhost tasks cluster jobs.txt -r 2 -f failed.txt', 'gives each task three attempts'],
      ['manyhost tasks cluster --restart', 'runs the tasks of an interrupted batch'],
      [
        'manyhost tasks cluster --fleet fleet.yaml --requests urls.txt',
        'each line is like GET http://calc/add/1/2',
      ],
      [
        "manyhost tasks cluster jobs.txt --launcher 'srun -N 4' --bind 0.0.0.0:0 --tls-cert c.pem --tls-key k.pem",
        'runs on four nodes',
      ],
    ],
    load: () => import('./cluster.ts'),
  },
  {
    name: 'server',
    group: 'Serve',
    args: [TASK_FILE_ARGUMENT],
    summary: 'run tasks that are submitted, until Ctrl-C',
    options: [
      ...RUN_OPTIONS,
      { flags: '-H, --host <address>', meaning: 'address to listen on; 127.0.0.1 unless given' },
      {
        flags: '-p, --port <number>',
        meaning: 'port to listen on; 50001 unless given; 0: a free port',
        parse: parseWholeNumber,
      },
      ...TOKEN_OPTIONS,
      ...markCommandLineOnly([
        { flags: '--until-done', meaning: 'end when all tasks of the file have an outcome' },
        {
          flags: '--restart',
          meaning:
            'run the tasks that this folder left and submitted tasks, and end when all have an outcome',
        },
      ]),
    ],
    replacedOptions: [
      { flags: '--forever' },
      { flags: '--available-ports', advice: 'give -p 0 for a free port' },
      ...REPLACED_LISTENER_OPTIONS,
    ],
    examples: [
      ['manyhost tasks server -N 4 --capture', 'runs the tasks that are submitted'],
      [
        'manyhost tasks submit --server http://127.0.0.1:50001 -f jobs.txt',
        'submits tasks from another machine',
      ],
    ],
    load: () => import('./server.ts'),
  },
  {
    name: 'submit',
    group: 'Serve',
    args: [{ name: '[args...]', meaning: 'one command line; for more, give -f' }],
    summary: 'submit tasks to a store or a task server',
    options: [
      STORE_OPTION,
      ...SERVER_OPTIONS,
      ...markCommandLineOnly([
        {
          flags: '-f, --file <file>',
          aliases: ['--task-file'],
          meaning: 'file with a task in each line; - for standard input',
        },
      ]),
      { flags: '--template <text>', meaning: 'how a line becomes a command' },
      {
        flags: '-W, --task-timeout <seconds>',
        aliases: ['--timeout'],
        meaning: 'maximum time of each attempt of a task',
        parse: parsePositiveDuration,
      },
      {
        flags: '-b, --bundlesize <number>',
        meaning: 'maximum number of tasks that are submitted together',
        parse: parsePositiveInteger,
      },
      {
        flags: '-w, --bundlewait <seconds>',
        meaning: 'how long to wait for more tasks; tasks are submitted at once unless given',
        parse: parseDurationOption,
      },
      {
        flags: '--capture',
        meaning: 'keep the output of these tasks, also if the server does not',
      },
      ...PER_TASK_OPTIONS.filter(({ flags }) => !flags.startsWith('--tag')),
      {
        flags: '-t, --tag <tag...>',
        meaning: 'tag of each task, as key:value',
        isRepeatable: true,
      },
    ],
    replacedOptions: [{ flags: '--initdb' }, ...REPLACED_CALLER_OPTIONS],
    examples: [
      ['manyhost tasks submit -- convert a.png a.jpg', 'submits one task, and prints its id'],
      ['manyhost tasks submit -f jobs.txt -t run:7', 'submits one task for each line'],
      [
        'tail -f jobs.txt | manyhost tasks submit -f - -w 5',
        'submits new lines every five seconds',
      ],
    ],
    load: () => import('./submit.ts'),
  },
]

/** `manyhost run`. */
export const RUN_COMMAND: CliCommand = {
  name: 'run',
  group: 'Serve',
  whenUnread: 'stopOnEither',
  args: [{ name: '<command...>', meaning: 'the command, after --' }],
  summary: 'run one command as a task, print its output, and end with its exit status',
  options: [
    STORE_OPTION,
    ...SERVER_OPTIONS,
    {
      flags: '-n, --interval <seconds>',
      meaning: 'interval of polls of the store',
      parse: parsePositiveDuration,
    },
    { flags: '-t, --tag <tag...>', meaning: 'tag of the task, as key:value', isRepeatable: true },
    {
      flags: '-W, --task-timeout <seconds>',
      meaning: 'maximum time of each attempt of the task',
      parse: parsePositiveDuration,
    },
    ...markCommandLineOnly([
      {
        flags: '--request',
        meaning: 'the command is a request: POST http://calc/sums \'{"of":[1,2]}\'',
      },
      {
        flags: '--fleet <file>',
        meaning: 'send a request to a service of this fleet file, which is started for it',
      },
    ]),
  ],
  examples: [
    [
      "manyhost run -- make -C '/my/project'",
      'runs by the server of the store, or here if there is none',
    ],
    ["manyhost run -- 'ls | wc -l'", 'a single word is a line of shell'],
    ['manyhost run --fleet fleet.yaml -- GET http://calc/add/1/2', 'sends a request'],
  ],
  load: () => import('./run.ts'),
}
