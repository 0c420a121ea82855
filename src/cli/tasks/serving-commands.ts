/** The commands that serve tasks or hand them in. */
import { parseTaskDuration } from '../../tasks/text/units.ts'
import { type CliCommand, markCommandLineOnly } from '../command.ts'
import { parseCount, parsePositiveCount, parseSecondsToMs } from './numbers.ts'
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
  meaning: 'lines of tasks; standard input without',
  completes: 'file',
} as const

/** Below `manyhost tasks`. */
export const SERVING_COMMANDS: readonly CliCommand[] = [
  {
    name: 'cluster',
    group: 'Serve',
    args: [TASK_FILE_ARGUMENT],
    summary: 'run the tasks of a file or of standard input, to the end',
    options: [
      ...RUN_OPTIONS,
      ...markCommandLineOnly([
        { flags: '--forever', meaning: 'go on when nothing is left' },
        { flags: '--restart', meaning: 'no file: what earlier batches of this folder have left' },
      ]),
    ],
    replacedOptions: [
      { flags: '-H, --host <address>', advice: 'give --bind ADDRESS:PORT' },
      { flags: '-p, --port <number>', advice: 'give --bind ADDRESS:PORT' },
      ...REPLACED_LISTENER_OPTIONS,
    ],
    examples: [
      ["cat files.txt | manyhost tasks cluster -N 8 -t 'convert {} {-}.jpg'", 'eight at a time'],
      ['manyhost tasks cluster jobs.txt -r 2 -f failed.txt', 'three attempts each'],
      ['manyhost tasks cluster --restart', 'what was interrupted'],
      [
        'manyhost tasks cluster --fleet fleet.yaml --requests urls.txt',
        'lines such as GET http://calc/add/1/2',
      ],
      [
        "manyhost tasks cluster jobs.txt --launcher 'srun -N 4' --bind 0.0.0.0:0 --tls-cert c.pem --tls-key k.pem",
        'on four nodes',
      ],
    ],
    load: () => import('./cluster.ts'),
  },
  {
    name: 'server',
    group: 'Serve',
    args: [TASK_FILE_ARGUMENT],
    summary: 'run tasks that are handed in, until Ctrl-C',
    options: [
      ...RUN_OPTIONS,
      { flags: '-H, --host <address>', meaning: 'to listen on; 127.0.0.1 unless given' },
      {
        flags: '-p, --port <number>',
        meaning: 'to listen on; 50001 unless given, 0: any',
        parse: parseCount,
      },
      ...TOKEN_OPTIONS,
      ...markCommandLineOnly([
        { flags: '--until-done', meaning: 'end when the file is worked off' },
        {
          flags: '--restart',
          meaning: 'end when what is left of this folder, and was submitted, is worked off',
        },
      ]),
    ],
    replacedOptions: [
      { flags: '--forever' },
      { flags: '--available-ports', advice: 'give -p 0 for any port that is free' },
      ...REPLACED_LISTENER_OPTIONS,
    ],
    examples: [
      ['manyhost tasks server -N 4 --capture', 'takes what submit brings'],
      ['manyhost tasks submit --server http://127.0.0.1:50001 -f jobs.txt', 'from elsewhere'],
    ],
    load: () => import('./server.ts'),
  },
  {
    name: 'submit',
    group: 'Serve',
    args: [{ name: '[args...]', meaning: 'one command line; -f for many' }],
    summary: 'hand tasks in',
    options: [
      STORE_OPTION,
      ...SERVER_OPTIONS,
      ...markCommandLineOnly([
        {
          flags: '-f, --file <file>',
          aliases: ['--task-file'],
          meaning: 'lines of tasks; - for standard input',
        },
      ]),
      { flags: '--template <text>', meaning: 'how a line becomes a command' },
      {
        flags: '-W, --task-timeout <seconds>',
        aliases: ['--timeout'],
        meaning: 'of each attempt',
        parse: parseTaskDuration,
      },
      {
        flags: '-b, --bundlesize <number>',
        meaning: 'tasks handed in at a time, at most',
        parse: parsePositiveCount,
      },
      {
        flags: '-w, --bundlewait <seconds>',
        meaning: 'fewer are handed in after so long; at once unless given',
        parse: parseSecondsToMs,
      },
      { flags: '--capture', meaning: 'keep what these write, whatever the server does' },
      ...PER_TASK_OPTIONS.filter(({ flags }) => !flags.startsWith('--tag')),
      { flags: '-t, --tag <tag...>', meaning: 'key:value, put on each task', isRepeatable: true },
    ],
    replacedOptions: [{ flags: '--initdb' }, ...REPLACED_CALLER_OPTIONS],
    examples: [
      ['manyhost tasks submit -- convert a.png a.jpg', 'one; prints its id'],
      ['manyhost tasks submit -f jobs.txt -t run:7', 'a line each'],
      ['tail -f jobs.txt | manyhost tasks submit -f - -w 5', 'each five seconds what has come'],
    ],
    load: () => import('./submit.ts'),
  },
]

/** At the top: `manyhost run`. */
export const RUN_COMMAND: CliCommand = {
  name: 'run',
  group: 'Serve',
  whenUnread: 'stopOnEither',
  args: [{ name: '<command...>', meaning: 'the command, behind --' }],
  summary: 'run one command as a task, print what it wrote, end as it did',
  options: [
    STORE_OPTION,
    ...SERVER_OPTIONS,
    {
      flags: '-n, --interval <seconds>',
      meaning: 'between two looks at the store',
      parse: parseTaskDuration,
    },
    { flags: '-t, --tag <tag...>', meaning: 'key:value', isRepeatable: true },
    {
      flags: '-W, --task-timeout <seconds>',
      meaning: 'it takes no longer',
      parse: parseTaskDuration,
    },
    ...markCommandLineOnly([
      { flags: '--request', meaning: 'it is a request: POST http://calc/sums \'{"of":[1,2]}\'' },
      {
        flags: '--fleet <file>',
        meaning: 'a request, to a service of this file, which is started for it',
      },
    ]),
  ],
  examples: [
    ["manyhost run -- make -C '/my/project'", 'by the server of the store, here if there is none'],
    ["manyhost run -- 'ls | wc -l'", 'one word is a line of shell'],
    ['manyhost run --fleet fleet.yaml -- GET http://calc/add/1/2', 'a request'],
  ],
  load: () => import('./run.ts'),
}
