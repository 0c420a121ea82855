/** What the commands that serve or hand in tasks take, under the ancestor's names. */
import { memorySize, taskDuration } from '../../tasks/units.ts'
import type { Command, Option } from '../commands.ts'
import { STORE_OPTION } from './options.ts'

const PER_TASK: readonly Option[] = [
  { flags: '-c, --cores <number>', meaning: 'cores of a task that names none', parse: above },
  { flags: '-m, --memory <size>', meaning: 'memory of one, such as 2GB', parse: memorySize },
  { flags: '-g, --group <number>', meaning: 'group of one', parse: integer },
  { flags: '--tag <tag>', meaning: 'key:value, put on each task', many: true },
  { flags: '--from-json', meaning: 'lines are JSON objects: args, cores, tag, ...' },
]

const TOKEN: readonly Option[] = [
  {
    flags: '--token-file <file>',
    meaning: 'its token (env MANYHOST_TASKS_TOKEN has the token itself)',
  },
]

export const SERVER_OPTIONS: readonly Option[] = [
  { flags: '--server <url>', meaning: 'a task server (env MANYHOST_TASKS_SERVER)' },
  ...TOKEN,
]

const RUNNING: readonly Option[] = [
  STORE_OPTION,
  { flags: '--no-db', meaning: 'keep tasks in memory only' },
  {
    flags: '-N, --num-tasks <number>',
    meaning: 'tasks at a time in a runner; 0: its cores',
    parse: count,
  },
  { flags: '-t, --template <text>', meaning: "how a line becomes a command: 'convert {} {-}.jpg'" },
  { flags: '-b, --bundlesize <number>', meaning: 'tasks of one bundle at most', parse: positive },
  {
    flags: '-w, --bundlewait <seconds>',
    meaning: 'outcomes are kept after so long',
    parse: seconds,
  },
  {
    flags: '-r, --max-retries <number>',
    meaning: 'more attempts of a task that fails',
    parse: count,
  },
  { flags: '--eager', meaning: 'failed tasks before new ones' },
  { flags: '--no-confirm', meaning: 'do not note which runner has which task' },
  {
    flags: '--evict-after <seconds>',
    meaning: 'a silent runner or server has lost its tasks',
    parse: seconds,
  },
  { flags: '--capture', meaning: 'keep outputs by task, in files beside the store' },
  { flags: '--monitor', meaning: 'sample cores and memory of each task' },
  { flags: '-o, --output <path>', meaning: 'a file that outputs are added to' },
  { flags: '-e, --errors <path>', meaning: 'a file that errors are added to' },
  { flags: '-f, --failures <path>', meaning: 'a file that lines of failed tasks are added to' },
  { flags: '--print', meaning: 'print lines of failed tasks instead of outputs' },
  {
    flags: '-C, --max-cores <number>',
    meaning: 'for all tasks of a runner together',
    parse: positive,
  },
  {
    flags: '-M, --max-memory <size>',
    meaning: 'for all tasks of a runner together',
    parse: memorySize,
  },
  {
    flags: '-T, --timeout <seconds>',
    meaning: 'end runners that had nothing to do for so long',
    parse: seconds,
  },
  {
    flags: '-W, --task-timeout <seconds>',
    meaning: 'no attempt of a task takes longer',
    parse: taskDuration,
  },
  { flags: '-S, --signalwait <seconds>', meaning: 'from INT to TERM to KILL', parse: seconds },
  {
    flags: '-R, --ratelimit <number>',
    meaning: 'tasks started a second, in each runner',
    parse: above,
  },
  {
    flags: '-d, --delay-start <seconds>',
    meaning: 'of runners; negative: at random up to so long',
    parse: signed,
  },
  {
    flags: '-Q, --poll <seconds>',
    meaning: 'between looks for what no event tells',
    parse: seconds,
  },
  { flags: '-I, --init-size <number>', meaning: 'runners, at the beginning with -A', parse: count },
  {
    flags: '-A, --autoscaling [mode]',
    meaning: 'as many runners as the work asks for: fixed or dynamic',
  },
  {
    flags: '-F, --factor <number>',
    meaning: 'dynamic: mean task times that the rest may take',
    parse: above,
  },
  { flags: '-P, --period <seconds>', meaning: 'dynamic: how long a size stays', parse: seconds },
  { flags: '-X, --min-size <number>', meaning: 'runners kept without work', parse: count },
  { flags: '-Y, --max-size <number>', meaning: 'runners at most', parse: positive },
  { flags: '--ssh <hosts>', meaning: 'run on these machines: a[01-03].x,b', many: true },
  { flags: '--remote-exe <path>', meaning: 'path of the runner program there' },
  ...PER_TASK,
]

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
      { flags: '--forever', meaning: 'go on when nothing is left' },
      { flags: '--restart', meaning: 'no file: what the store has left' },
    ],
    examples: [
      ["cat files.txt | manyhost tasks cluster -N 8 -t 'convert {} {-}.jpg'", 'eight at a time'],
      ['manyhost tasks cluster jobs.txt -r 2 -f failed.txt', 'three attempts each'],
      ['manyhost tasks cluster --restart', 'what was interrupted'],
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
      { flags: '--until-done', meaning: 'end when the file is worked off' },
      { flags: '--restart', meaning: 'end when what the store has left is worked off' },
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
      { flags: '-f, --file <file>', meaning: 'lines of tasks; - for standard input' },
      { flags: '--template <text>', meaning: 'how a line becomes a command' },
      { flags: '-W, --task-timeout <seconds>', meaning: 'of each attempt', parse: taskDuration },
      { flags: '-b, --bundlesize <number>', meaning: 'tasks handed in at a time', parse: positive },
      { flags: '--capture', meaning: 'keep what these write, whatever the server does' },
      ...PER_TASK.filter(({ flags }) => !flags.startsWith('--tag')),
      { flags: '-t, --tag <tag>', meaning: 'key:value, put on each task', many: true },
    ],
    examples: [
      ['manyhost tasks submit -- convert a.png a.jpg', 'one; prints its id'],
      ['manyhost tasks submit -f jobs.txt -t run:7', 'a line each'],
    ],
    load: () => import('./submit.ts'),
  },
]

/** At the top: `manyhost run`. */
export const RUN_COMMAND: Command = {
  name: 'run',
  group: 'Serve',
  args: [{ name: '<command...>', meaning: 'the command, behind --' }],
  summary: 'run one command as a task, print what it wrote, end as it did',
  options: [
    STORE_OPTION,
    ...SERVER_OPTIONS,
    {
      flags: '-n, --interval <seconds>',
      meaning: 'between two looks at the store',
      parse: seconds,
    },
    { flags: '-t, --tag <tag>', meaning: 'key:value', many: true },
    { flags: '-W, --task-timeout <seconds>', meaning: 'it takes no longer', parse: taskDuration },
  ],
  examples: [
    ["manyhost run -- make -C '/my/project'", 'by the server of the store, here if there is none'],
    ["manyhost run -- 'ls | wc -l'", 'one word is a line of shell'],
  ],
  load: () => import('./run.ts'),
}

function integer(value: string): number {
  if (/^-?\d{1,9}$/.test(value)) return Number(value)
  throw new Error('expected a whole number')
}

function count(value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value)
  throw new Error('expected a whole number from 0 up')
}

function positive(value: string): number {
  if (/^[1-9]\d{0,8}$/.test(value)) return Number(value)
  throw new Error('expected a whole number from 1 up')
}

function above(value: string): number {
  const number = Number(value)
  if (value.trim() !== '' && number > 0 && Number.isFinite(number)) return number
  throw new Error('expected a number above 0')
}

/** Milliseconds; a plain number is of seconds, as the ancestor's are. */
function seconds(value: string): number {
  return value === '0' ? 0 : taskDuration(value)
}

function signed(value: string): number {
  const number = Number(value)
  if (value.trim() !== '' && Number.isFinite(number)) return number * 1_000
  throw new Error('expected a number of seconds')
}
