/** The commands that serve tasks or hand them in. */
import { taskDuration } from '../../tasks/units.ts'
import { type Command, once } from '../commands.ts'
import { count, positive, seconds } from './numbers.ts'
import {
  PER_TASK,
  REPLACED,
  REPLACED_BY_SERVER,
  RUNNING,
  SERVER_OPTIONS,
  STORE_OPTION,
  TOKEN,
} from './options.ts'

const FILE = {
  name: '[file]',
  meaning: 'lines of tasks; standard input without',
  completes: 'file',
} as const

/** Below `manyhost tasks`. */
export const SERVING_COMMANDS: readonly Command[] = [
  {
    name: 'cluster',
    group: 'Serve',
    args: [FILE],
    summary: 'run the tasks of a file or of standard input, to the end',
    options: [
      ...RUNNING,
      ...once([
        { flags: '--forever', meaning: 'go on when nothing is left' },
        { flags: '--restart', meaning: 'no file: what earlier batches of this folder have left' },
      ]),
    ],
    replaced: [
      { flags: '-H, --host <address>', instead: 'give --bind ADDRESS:PORT' },
      { flags: '-p, --port <number>', instead: 'give --bind ADDRESS:PORT' },
      ...REPLACED,
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
    args: [FILE],
    summary: 'run tasks that are handed in, until Ctrl-C',
    options: [
      ...RUNNING,
      { flags: '-H, --host <address>', meaning: 'to listen on; 127.0.0.1 unless given' },
      {
        flags: '-p, --port <number>',
        meaning: 'to listen on; 50001 unless given, 0: any',
        parse: count,
      },
      ...TOKEN,
      ...once([
        { flags: '--until-done', meaning: 'end when the file is worked off' },
        {
          flags: '--restart',
          meaning: 'end when what is left of this folder, and was submitted, is worked off',
        },
      ]),
    ],
    replaced: [
      { flags: '--forever' },
      { flags: '--available-ports', instead: 'give -p 0 for any port that is free' },
      ...REPLACED,
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
      ...once([
        {
          flags: '-f, --file <file>',
          also: ['--task-file'],
          meaning: 'lines of tasks; - for standard input',
        },
      ]),
      { flags: '--template <text>', meaning: 'how a line becomes a command' },
      {
        flags: '-W, --task-timeout <seconds>',
        also: ['--timeout'],
        meaning: 'of each attempt',
        parse: taskDuration,
      },
      {
        flags: '-b, --bundlesize <number>',
        meaning: 'tasks handed in at a time, at most',
        parse: positive,
      },
      {
        flags: '-w, --bundlewait <seconds>',
        meaning: 'fewer are handed in after so long; at once unless given',
        parse: seconds,
      },
      { flags: '--capture', meaning: 'keep what these write, whatever the server does' },
      ...PER_TASK.filter(({ flags }) => !flags.startsWith('--tag')),
      { flags: '-t, --tag <tag...>', meaning: 'key:value, put on each task', many: true },
    ],
    replaced: [{ flags: '--initdb' }, ...REPLACED_BY_SERVER],
    examples: [
      ['manyhost tasks submit -- convert a.png a.jpg', 'one; prints its id'],
      ['manyhost tasks submit -f jobs.txt -t run:7', 'a line each'],
      ['tail -f jobs.txt | manyhost tasks submit -f - -w 5', 'each five seconds what has come'],
    ],
    load: () => import('./submit.ts'),
  },
]

/** At the top: `manyhost run`. */
export const RUN_COMMAND: Command = {
  name: 'run',
  group: 'Serve',
  unread: 'stopOnEither',
  args: [{ name: '<command...>', meaning: 'the command, behind --' }],
  summary: 'run one command as a task, print what it wrote, end as it did',
  options: [
    STORE_OPTION,
    ...SERVER_OPTIONS,
    {
      flags: '-n, --interval <seconds>',
      meaning: 'between two looks at the store',
      parse: taskDuration,
    },
    { flags: '-t, --tag <tag...>', meaning: 'key:value', many: true },
    { flags: '-W, --task-timeout <seconds>', meaning: 'it takes no longer', parse: taskDuration },
    ...once([
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
