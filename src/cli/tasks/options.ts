/** What more than one command takes, under the ancestor's names. */
import { requireBytes } from '../../core/units.ts'
import { parseTaskDuration } from '../../tasks/text/units.ts'
import type { CliOption, ReplacedOption } from '../command.ts'
import {
  parseCount,
  parseInteger,
  parseNumberAboveZero,
  parsePositiveCount,
  parseRotationInterval,
  parseSecondsToMs,
  parseSignedSecondsToMs,
} from './numbers.ts'

export const STORE_OPTION: CliOption = {
  flags: '--store <where>',
  meaning: 'a path, or a postgres:// URL without its password (env MANYHOST_STORE may have it)',
  env: 'MANYHOST_STORE',
  exposureReason: (value) =>
    /^postgres(ql)?:\/\/[^@/]*:[^@/]+@/i.test(value)
      ? 'a password on the command line can be read by every user of this machine; put the URL into MANYHOST_STORE, or the password into PGPASSWORD'
      : undefined,
}

/** From all outcomes to what ends the command. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const

export const PARTITIONS_OPTION: CliOption = {
  flags: '-i, --ignore-partitions',
  meaning: 'leave out what was moved into partitions',
  commandLineOnly: true,
}

export const PER_TASK_OPTIONS: readonly CliOption[] = [
  {
    flags: '-c, --cores <number>',
    aliases: ['--task-cores'],
    meaning: 'cores of a task that names none',
    parse: parseNumberAboveZero,
  },
  {
    flags: '-m, --memory <size>',
    aliases: ['--task-memory'],
    meaning: 'memory of one, such as 2GB',
    parse: requireBytes,
  },
  { flags: '-g, --group <number>', meaning: 'group of one', parse: parseInteger },
  { flags: '--tag <tag...>', meaning: 'key:value, put on each task', isRepeatable: true },
  { flags: '--from-json', meaning: 'lines are JSON objects: args, cores, tag, ...' },
  { flags: '--requests', meaning: 'lines are requests: POST http://calc/sums {"of":[1,2]}' },
]

export const TOKEN_OPTIONS: readonly CliOption[] = [
  {
    flags: '--token-file <file>',
    meaning: 'its token (env MANYHOST_TASKS_TOKEN has the token itself)',
  },
]

export const SERVER_OPTIONS: readonly CliOption[] = [
  { flags: '--server <url>', meaning: 'a task server (env MANYHOST_TASKS_SERVER)' },
  ...TOKEN_OPTIONS,
  {
    flags: '--ca-file <file>',
    aliases: ['--tls-ca'],
    meaning: 'the server has a certificate that this one (PEM) has signed (env MANYHOST_TASKS_CA)',
    env: 'MANYHOST_TASKS_CA',
  },
  { flags: '--insecure', meaning: 'without TLS to another machine: anybody between can read it' },
]

const TLS_OPTIONS: readonly CliOption[] = [
  { flags: '--tls-cert <file>', meaning: 'certificate (PEM) of where others dial in' },
  { flags: '--tls-key <file>', meaning: 'its private key (PEM)' },
]

const INSECURE_ADVICE = 'without TLS beyond this machine: --insecure'

/** HyperShell's options of a program that listens, and what there is for them. */
export const REPLACED_LISTENER_OPTIONS: readonly ReplacedOption[] = [
  { flags: '--no-tls', advice: INSECURE_ADVICE },
  {
    flags: '--tls-ca <file>',
    advice:
      'runners are given the certificate by its fingerprint; who hands tasks in says --ca-file',
  },
  {
    flags: '-k, --auth <key>',
    advice:
      'put the key into MANYHOST_TASKS_TOKEN, or into a file for --token-file: arguments are seen by all users',
  },
]

/** Those of a program that calls a server. */
export const REPLACED_CALLER_OPTIONS: readonly ReplacedOption[] = [
  { flags: '-q, --queue', advice: 'give --server http://HOST:PORT' },
  { flags: '-H, --host <address>', advice: 'give --server http://HOST:PORT' },
  { flags: '-p, --port <number>', advice: 'give --server http://HOST:PORT' },
  { flags: '--no-tls', advice: `give --server http://HOST:PORT; ${INSECURE_ADVICE}` },
  { flags: '--tls-key <file>', advice: 'callers have a token and no certificate: --token-file' },
  { flags: '--tls-cert <file>', advice: 'callers have a token and no certificate: --token-file' },
  ...REPLACED_LISTENER_OPTIONS.filter(({ flags }) => flags.includes('--auth')),
]

export const RUN_OPTIONS: readonly CliOption[] = [
  STORE_OPTION,
  { flags: '--no-db', meaning: 'keep tasks in memory only' },
  {
    flags: '-N, --num-tasks <number>',
    aliases: ['--num-threads'],
    meaning: 'tasks at a time in a runner; 0: its cores',
    parse: parseCount,
  },
  { flags: '-t, --template <text>', meaning: "how a line becomes a command: 'convert {} {-}.jpg'" },
  {
    flags: '-b, --bundlesize <number>',
    meaning: 'tasks of one bundle at most',
    parse: parsePositiveCount,
  },
  {
    flags: '-w, --bundlewait <seconds>',
    meaning: 'outcomes are kept after so long',
    parse: parseSecondsToMs,
  },
  {
    flags: '-r, --max-retries <number>',
    meaning: 'more attempts of a task that fails',
    parse: parseCount,
  },
  { flags: '--eager', meaning: 'failed tasks before new ones' },
  { flags: '--no-confirm', meaning: 'do not note which runner has which task' },
  {
    flags: '--evict-after <seconds>',
    meaning: 'a silent runner or server has lost its tasks',
    parse: parseSecondsToMs,
  },
  { flags: '--capture', meaning: 'keep outputs by task, in files beside the store' },
  { flags: '--monitor', meaning: 'sample cores and memory of each task' },
  { flags: '-o, --output <path>', meaning: 'a file that outputs are added to' },
  { flags: '-e, --errors <path>', meaning: 'a file that errors are added to' },
  { flags: '-f, --failures <path>', meaning: 'a file that lines of failed tasks are added to' },
  { flags: '--log-file <path>', meaning: 'a file that a log is added to, as lines of JSON' },
  {
    flags: '--log-level <level>',
    meaning: 'what the log has; info without',
    choices: LOG_LEVELS,
  },
  { flags: '--log-size <size>', meaning: 'a new log at so many bytes', parse: requireBytes },
  {
    flags: '--log-every <time>',
    meaning: 'a new log every 1d, 6h, 30m',
    parse: parseRotationInterval,
  },
  {
    flags: '--log-keep <number>',
    meaning: 'old logs that are kept, compressed; 10 unless given',
    parse: parsePositiveCount,
  },
  { flags: '--print', meaning: 'print lines of failed tasks instead of outputs' },
  {
    flags: '-C, --max-cores <number>',
    aliases: ['--client-cores'],
    meaning: 'for all tasks of a runner together',
    parse: parsePositiveCount,
  },
  {
    flags: '-M, --max-memory <size>',
    aliases: ['--client-memory'],
    meaning: 'for all tasks of a runner together',
    parse: requireBytes,
  },
  {
    flags: '-T, --timeout <seconds>',
    meaning: 'end runners that had nothing to do for so long',
    parse: parseSecondsToMs,
  },
  {
    flags: '-W, --task-timeout <seconds>',
    meaning: 'no attempt of a task takes longer',
    parse: parseTaskDuration,
  },
  {
    flags: '-S, --signalwait <seconds>',
    meaning: 'from INT to TERM to KILL',
    parse: parseSecondsToMs,
  },
  {
    flags: '-R, --ratelimit <number>',
    meaning: 'tasks started a second, in each runner',
    parse: parseNumberAboveZero,
  },
  {
    flags: '-d, --delay-start <seconds>',
    meaning: 'of runners; negative: at random up to so long',
    parse: parseSignedSecondsToMs,
  },
  {
    flags: '-Q, --poll <seconds>',
    meaning: 'between looks for what no event tells',
    parse: parseSecondsToMs,
  },
  {
    flags: '-I, --init-size <number>',
    meaning: 'runners, at the beginning with -A',
    parse: parseCount,
  },
  {
    flags: '-A, --autoscaling [mode]',
    meaning: 'as many runners as the work asks for: fixed or dynamic',
  },
  {
    flags: '-F, --factor <number>',
    meaning: 'dynamic: mean task times that the rest may take',
    parse: parseNumberAboveZero,
  },
  {
    flags: '-P, --period <seconds>',
    meaning: 'dynamic: how long a size stays',
    parse: parseSecondsToMs,
  },
  { flags: '-X, --min-size <number>', meaning: 'runners kept without work', parse: parseCount },
  { flags: '-Y, --max-size <number>', meaning: 'runners at most', parse: parsePositiveCount },
  {
    flags: '--fleet <file>',
    meaning: 'a file as for serve: its services answer tasks that are requests',
  },
  { flags: '--feed', meaning: 'open the feed of the file, which tells of tasks as well' },
  { flags: '--ssh <hosts>', meaning: 'run on these machines: a[01-03].x,b', isRepeatable: true },
  { flags: '--ssh-args <text>', meaning: "such as '-i key -p 2222 -l me', for --ssh" },
  { flags: '--ssh-group <name>', meaning: 'run on the hosts of an ssh provider of the file' },
  { flags: '--provider <name>', meaning: 'run by a provider of the file' },
  { flags: '--remote-exe <path>', meaning: 'path of the runner program there' },
  {
    flags: '--launcher <command>',
    meaning: "run what this starts, such as 'srun -N 4'; once, or for each of -I and -A",
  },
  { flags: '--mpi', meaning: 'as --launcher mpirun' },
  {
    flags: '--bind <host:port>',
    meaning: 'where what was launched dials in; 127.0.0.1 and any port unless given',
  },
  {
    flags: '--hub-timeout <seconds>',
    meaning: 'what was launched ends when this program is gone for so long; 60 unless given',
    parse: parseTaskDuration,
  },
  ...TLS_OPTIONS,
  { flags: '--insecure', meaning: 'without TLS on more than this machine' },
  { flags: '-E, --env', meaning: 'MANYHOST_EXPORT_* and HYPERSHELL_EXPORT_* of here, too' },
  {
    flags: '--initdb',
    meaning: 'make the store first; it is always made where there is none',
    commandLineOnly: true,
  },
  ...PER_TASK_OPTIONS,
]
