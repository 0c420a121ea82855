/** Options that several commands of tasks share. They have the names of HyperShell's options. */
import { requireBytes } from '../../core/units.ts'
import type { CliOption, ReplacedOption } from '../command.ts'
import {
  parseDurationOption,
  parseInteger,
  parsePositiveDuration,
  parsePositiveInteger,
  parsePositiveNumber,
  parseRotationInterval,
  parseSignedDuration,
  parseWholeNumber,
} from '../option-values.ts'
import { hasUrlPassword } from '../secrets.ts'

export const STORE_OPTION: CliOption = {
  flags: '--store <where>',
  meaning:
    'store: a path, or a postgres:// URL without a password (env MANYHOST_STORE can have one)',
  env: 'MANYHOST_STORE',
  exposureReason: (value) =>
    hasUrlPassword(value)
      ? 'every user of this machine can read a password on the command line; put the URL into MANYHOST_STORE, or the password into PGPASSWORD'
      : undefined,
}

/** `debug` logs every outcome, `error` only what ends the command. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const

export const PARTITIONS_OPTION: CliOption = {
  flags: '-i, --ignore-partitions',
  meaning: 'leave out tasks that were moved into partitions',
  commandLineOnly: true,
}

export const PER_TASK_OPTIONS: readonly CliOption[] = [
  {
    flags: '-c, --cores <number>',
    aliases: ['--task-cores'],
    meaning: 'cores of a task that has no own number',
    parse: parsePositiveNumber,
  },
  {
    flags: '-m, --memory <size>',
    aliases: ['--task-memory'],
    meaning: 'memory of a task that has no own size, such as 2GB',
    parse: requireBytes,
  },
  {
    flags: '-g, --group <number>',
    meaning: 'group of a task that has no own group',
    parse: parseInteger,
  },
  { flags: '--tag <tag...>', meaning: 'tag of each task, as key:value', isRepeatable: true },
  { flags: '--from-json', meaning: 'each line is a JSON object: args, cores, tag, ...' },
  { flags: '--requests', meaning: 'each line is a request: POST http://calc/sums {"of":[1,2]}' },
]

export const TOKEN_OPTIONS: readonly CliOption[] = [
  {
    flags: '--token-file <file>',
    meaning: 'file with the token of the server (env MANYHOST_TASKS_TOKEN has the token itself)',
  },
]

export const SERVER_OPTIONS: readonly CliOption[] = [
  { flags: '--server <url>', meaning: 'URL of a task server (env MANYHOST_TASKS_SERVER)' },
  ...TOKEN_OPTIONS,
  {
    flags: '--ca-file <file>',
    aliases: ['--tls-ca'],
    meaning:
      'file with the certificate (PEM) that signed the certificate of the server (env MANYHOST_TASKS_CA)',
    env: 'MANYHOST_TASKS_CA',
  },
  {
    flags: '--insecure',
    meaning: 'connect to another machine without TLS: anybody on the way can read everything',
  },
]

const TLS_OPTIONS: readonly CliOption[] = [
  {
    flags: '--tls-cert <file>',
    meaning: 'certificate (PEM) of the address that others connect to',
  },
  { flags: '--tls-key <file>', meaning: 'private key (PEM) of the certificate' },
]

const INSECURE_ADVICE = 'to listen or connect without TLS beyond this machine, give --insecure'

/** Options of HyperShell's programs that listen, with advice on what to write instead. */
export const REPLACED_LISTENER_OPTIONS: readonly ReplacedOption[] = [
  { flags: '--no-tls', advice: INSECURE_ADVICE },
  {
    flags: '--tls-ca <file>',
    advice:
      'runners get the fingerprint of the certificate; programs that submit tasks have --ca-file',
  },
  {
    flags: '-k, --auth <key>',
    advice:
      'put the key into MANYHOST_TASKS_TOKEN, or into a file for --token-file: all users can see arguments',
  },
]

/** Options of HyperShell's programs that connect to a server, with advice on what to write instead. */
export const REPLACED_CALLER_OPTIONS: readonly ReplacedOption[] = [
  { flags: '-q, --queue', advice: 'give --server http://HOST:PORT' },
  { flags: '-H, --host <address>', advice: 'give --server http://HOST:PORT' },
  { flags: '-p, --port <number>', advice: 'give --server http://HOST:PORT' },
  { flags: '--no-tls', advice: `give --server http://HOST:PORT; ${INSECURE_ADVICE}` },
  {
    flags: '--tls-key <file>',
    advice: 'a client has a token and no certificate: give --token-file',
  },
  {
    flags: '--tls-cert <file>',
    advice: 'a client has a token and no certificate: give --token-file',
  },
  ...REPLACED_LISTENER_OPTIONS.filter(({ flags }) => flags.includes('--auth')),
]

export const RUN_OPTIONS: readonly CliOption[] = [
  STORE_OPTION,
  { flags: '--no-db', meaning: 'keep tasks only in memory' },
  {
    flags: '-N, --num-tasks <number>',
    aliases: ['--num-threads'],
    meaning: 'tasks that one runner runs at the same time; 0: one for each core',
    parse: parseWholeNumber,
  },
  { flags: '-t, --template <text>', meaning: "how a line becomes a command: 'convert {} {-}.jpg'" },
  {
    flags: '-b, --bundlesize <number>',
    meaning: 'maximum number of tasks in a bundle',
    parse: parsePositiveInteger,
  },
  {
    flags: '-w, --bundlewait <seconds>',
    meaning: 'time after which outcomes are stored',
    parse: parseDurationOption,
  },
  {
    flags: '-r, --max-retries <number>',
    meaning: 'further attempts of a task that fails',
    parse: parseWholeNumber,
  },
  { flags: '--eager', meaning: 'run failed tasks again before new ones' },
  { flags: '--no-confirm', meaning: 'do not store which runner has which task' },
  {
    flags: '--evict-after <seconds>',
    meaning: 'time of silence after which a runner or server loses its tasks',
    parse: parseDurationOption,
  },
  { flags: '--capture', meaning: 'keep the output of each task in files beside the store' },
  { flags: '--monitor', meaning: 'sample the cores and the memory that each task uses' },
  { flags: '-o, --output <path>', meaning: 'file to append outputs to' },
  { flags: '-e, --errors <path>', meaning: 'file to append error outputs to' },
  { flags: '-f, --failures <path>', meaning: 'file to append the lines of failed tasks to' },
  { flags: '--log-file <path>', meaning: 'file to append a log of JSON lines to' },
  {
    flags: '--log-level <level>',
    meaning: 'least level in the log; info unless given',
    choices: LOG_LEVELS,
  },
  {
    flags: '--log-size <size>',
    meaning: 'size at which a new log file begins',
    parse: requireBytes,
  },
  {
    flags: '--log-every <time>',
    meaning: 'interval at which a new log file begins: 1d, 6h, 30m',
    parse: parseRotationInterval,
  },
  {
    flags: '--log-keep <number>',
    meaning: 'number of old log files that are kept, compressed; 10 unless given',
    parse: parsePositiveInteger,
  },
  { flags: '--print', meaning: 'print the lines of failed tasks instead of outputs' },
  {
    flags: '-C, --max-cores <number>',
    aliases: ['--client-cores'],
    meaning: 'cores for all tasks of a runner together',
    parse: parsePositiveInteger,
  },
  {
    flags: '-M, --max-memory <size>',
    aliases: ['--client-memory'],
    meaning: 'memory for all tasks of a runner together',
    parse: requireBytes,
  },
  {
    flags: '-T, --timeout <seconds>',
    meaning: 'time without work after which a runner ends',
    parse: parseDurationOption,
  },
  {
    flags: '-W, --task-timeout <seconds>',
    meaning: 'maximum time of each attempt of a task',
    parse: parsePositiveDuration,
  },
  {
    flags: '-S, --signalwait <seconds>',
    meaning: 'wait between INT, TERM and KILL',
    parse: parseDurationOption,
  },
  {
    flags: '-R, --ratelimit <number>',
    meaning: 'maximum number of tasks that each runner starts in a second',
    parse: parsePositiveNumber,
  },
  {
    flags: '-d, --delay-start <seconds>',
    meaning: 'wait before a runner starts; negative: a random time up to this',
    parse: parseSignedDuration,
  },
  {
    flags: '-Q, --poll <seconds>',
    meaning: 'interval of polls for changes that no event reports',
    parse: parseDurationOption,
  },
  {
    flags: '-I, --init-size <number>',
    meaning: 'number of runners; with -A, at the beginning',
    parse: parseWholeNumber,
  },
  {
    flags: '-A, --autoscaling [mode]',
    meaning: 'change the number of runners with the work: fixed or dynamic',
  },
  {
    flags: '-F, --factor <number>',
    meaning: 'dynamic: how many mean task times the remaining tasks may take',
    parse: parsePositiveNumber,
  },
  {
    flags: '-P, --period <seconds>',
    meaning: 'dynamic: least time between two sizes',
    parse: parseDurationOption,
  },
  {
    flags: '-X, --min-size <number>',
    meaning: 'minimum number of runners',
    parse: parseWholeNumber,
  },
  {
    flags: '-Y, --max-size <number>',
    meaning: 'maximum number of runners',
    parse: parsePositiveInteger,
  },
  {
    flags: '--fleet <file>',
    meaning: 'fleet file; its services answer tasks that are requests',
  },
  {
    flags: '--feed',
    meaning: 'open the feed of the fleet file, which also publishes events of tasks',
  },
  {
    flags: '--ssh <hosts>',
    meaning: 'run tasks on these machines: a[01-03].x,b',
    isRepeatable: true,
  },
  { flags: '--ssh-args <text>', meaning: "arguments for --ssh, such as '-i key -p 2222 -l me'" },
  {
    flags: '--ssh-group <name>',
    meaning: 'run tasks on the hosts of an ssh provider of the fleet file',
  },
  { flags: '--provider <name>', meaning: 'run tasks by a provider of the fleet file' },
  { flags: '--remote-exe <path>', meaning: 'path of the runner program on the other machines' },
  {
    flags: '--launcher <command>',
    meaning:
      "command that starts runners, such as 'srun -N 4'; it runs once, or with -I and -A for each runner",
  },
  { flags: '--mpi', meaning: 'same as --launcher mpirun' },
  {
    flags: '--bind <host:port>',
    meaning: 'address that launched runners connect to; 127.0.0.1 and a free port unless given',
  },
  {
    flags: '--hub-timeout <seconds>',
    meaning: 'time without this program after which a launched runner ends; 60 unless given',
    parse: parsePositiveDuration,
  },
  ...TLS_OPTIONS,
  { flags: '--insecure', meaning: 'listen for other machines without TLS' },
  {
    flags: '-E, --env',
    meaning: 'give MANYHOST_EXPORT_* and HYPERSHELL_EXPORT_* of this environment to tasks',
  },
  {
    flags: '--initdb',
    meaning: 'accepted for HyperShell; a store that does not exist is always created',
    commandLineOnly: true,
  },
  ...PER_TASK_OPTIONS,
]
