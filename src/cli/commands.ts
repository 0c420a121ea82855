/** Every command: what it takes, what it says of itself, and where it is. Loaded only when it is called. */
import { FEED_COMMANDS } from './feed/commands.ts'
import {
  parseMethod,
  parsePositiveInteger,
  parsePositiveNumber,
  parseWholeNumber,
} from './option-values.ts'
import type { UnreadRule } from './output-readers.ts'

/** Resolves with the exit code. */
type RunCommand = (args: readonly (string | undefined)[], options: never) => Promise<number>

export interface CliCommand {
  /** `serve`; or `feed publish`, which stands below `feed`. */
  readonly name: string
  /** `<needed>`, `[optional]`, with what completes them. */
  readonly args?: readonly { name: string; meaning: string; completes?: 'file' | 'cluster' }[]
  readonly summary: string
  readonly group: 'Batch' | 'Serve' | 'Look' | 'Steer' | 'Feed' | 'Shell'
  readonly options?: readonly CliOption[]
  /** Options that other programs have for the same, and what is used here instead. */
  readonly replacedOptions?: readonly ReplacedOption[]
  /** Section of the files of settings that has defaults of its options. */
  readonly settingsSection?: string
  /** Whether it talks to the admin address, and has the options for that. */
  readonly usesAdminAddress?: boolean
  /** What becomes of it when nobody reads its output any more. @default 'goOn' */
  readonly whenUnread?: UnreadRule | ((options: Readonly<Record<string, unknown>>) => UnreadRule)
  readonly examples: readonly (readonly [line: string, meaning: string])[]
  readonly load: () => Promise<{ readonly run: RunCommand }>
}

/** An option of another program, that has none like it here. */
export interface ReplacedOption {
  readonly flags: string
  /** Why it is refused, and what to write: `give --server http://HOST:PORT`. Absent: it says what is so anyway. */
  readonly advice?: string
}

export interface CliOption {
  /** With `<word...>` it takes all words that follow, up to the next option or `--`. */
  readonly flags: string
  /** Other names that are taken for it, and not shown in the help: `--num-threads`. */
  readonly aliases?: readonly string[]
  readonly meaning: string
  readonly choices?: readonly string[]
  readonly defaultValue?: string
  /** May be given again and again. */
  readonly isRepeatable?: boolean
  /** Reads the value. @throws Error with what was expected */
  readonly parse?: (value: string) => unknown
  /** Says what is to be done this time: no file makes a default of it. */
  readonly commandLineOnly?: boolean
  /** A variable of the environment that says it, beside that of its section. */
  readonly env?: string
  /** Why such a value must not stand where every user of this machine can read it. */
  readonly exposureReason?: (value: string) => string | undefined
}

/** Options that no file makes a default of. */
export function markCommandLineOnly(options: readonly CliOption[]): readonly CliOption[] {
  return options.map((option) => ({ ...option, once: true }))
}

export const ADMIN_OPTIONS: readonly CliOption[] = [
  { flags: '--admin <url>', meaning: 'admin address (env MANYHOST_ADMIN)' },
  {
    flags: '--token-file <file>',
    meaning: 'file with the token for the admin address (env MANYHOST_TOKEN has the token itself)',
  },
]

const FLEET_FILE_ARGUMENT = {
  name: '[fleet.yaml]',
  meaning: 'the file',
  completes: 'file',
} as const
const SERVICE_ARGUMENT = {
  name: '<service>',
  meaning: 'its name, such as calc, or its whole URL',
  completes: 'cluster',
} as const
const JSON_OPTION = { flags: '--json', meaning: 'as JSON, for programs' }
const NO_WAIT_OPTION = { flags: '--no-wait', meaning: 'do not wait until it is done' }

/** Commands that only have others below them. */
export const PARENT_COMMANDS: Readonly<Record<string, Pick<CliCommand, 'summary' | 'group'>>> = {
  tasks: { group: 'Batch', summary: 'tasks that are kept until they have an outcome' },
  config: { group: 'Batch', summary: 'defaults of the commands of tasks, kept in files' },
  feed: { group: 'Feed', summary: 'say and hear what happens, on named channels (hpfeeds)' },
}

export const COMMANDS: readonly CliCommand[] = [
  {
    name: 'serve',
    group: 'Serve',
    whenUnread: 'stop',
    args: [FLEET_FILE_ARGUMENT],
    summary: 'serve the fleet that a file describes, until Ctrl-C',
    options: [
      { flags: '-w, --watch', meaning: 'apply the file whenever it changes, as SIGHUP does' },
      {
        flags: '--log <how>',
        meaning: 'pretty on a terminal and json elsewhere, unless given',
        choices: ['pretty', 'json', 'quiet'],
      },
    ],
    examples: [
      ['manyhost serve fleet.yaml', 'gateway, admin address and dashboard as the file says'],
      ['manyhost serve --watch', './fleet.yaml, applied at each change without losing a request'],
      ['manyhost serve fleet.yaml --log json | jq .msg', 'the log as JSON lines'],
    ],
    load: () => import('./serve.ts'),
  },
  {
    name: 'check',
    group: 'Serve',
    args: [FLEET_FILE_ARGUMENT],
    summary: 'say what is wrong in a file, all of it at once',
    options: [
      JSON_OPTION,
      { flags: '--schema', meaning: 'print the JSON Schema of such files instead' },
    ],
    examples: [
      ['manyhost check fleet.yaml', 'exit code 3 when something is wrong'],
      ['manyhost check --schema > fleet.schema.json', 'for editors'],
    ],
    load: () => import('./check.ts'),
  },
  {
    name: 'init',
    group: 'Serve',
    args: [FLEET_FILE_ARGUMENT],
    summary: 'write a commented file to begin with',
    options: [{ flags: '-f, --force', meaning: 'overwrite a file that is there' }],
    examples: [
      ['manyhost init', 'writes ./fleet.yaml'],
      ['manyhost init my/fleet.yaml', 'another place'],
    ],
    load: () => import('./init.ts'),
  },
  {
    name: 'agent',
    group: 'Serve',
    summary: 'run instances on this machine for a hub that cannot connect to it, until Ctrl-C',
    options: [
      {
        flags: '--connect <address>',
        meaning: 'host:port or unix:/path of the hub',
        defaultValue: '127.0.0.1:4747',
      },
      {
        flags: '--key-file <file>',
        meaning: 'file with the key of the hub (env MANYHOST_AGENT_KEY has the key itself)',
      },
      {
        flags: '--max-instances <count>',
        meaning: 'instances at a time; the number of processors unless given',
        parse: parsePositiveInteger,
      },
      {
        flags: '--name <name>',
        meaning: 'what the hub knows this machine by; its own name unless given',
      },
      {
        flags: '-l, --label <label>',
        meaning: 'such as gpu=a100, for services with require.gpu: a100; may be repeated',
        isRepeatable: true,
      },
      {
        flags: '--cpus <count>',
        meaning: 'processors to give away; all of them unless given',
        parse: parsePositiveNumber,
      },
      {
        flags: '--memory <bytes>',
        meaning: 'bytes of memory to give away; all of it unless given',
        parse: parsePositiveNumber,
      },
      {
        flags: '--provider <how>',
        meaning: 'what runs the instances here',
        choices: ['process', 'docker', 'podman'],
        defaultValue: 'process',
      },
      { flags: '--tls', meaning: 'the hub has a certificate of a known authority' },
      {
        flags: '--ca-file <file>',
        meaning: 'the hub has a certificate that this one (PEM) has signed',
      },
      { flags: '--fingerprint <sha256>', meaning: 'the hub has the certificate with this SHA-256' },
      {
        flags: '--insecure',
        meaning: 'dial another machine without TLS: anybody between can read and change all',
      },
      {
        flags: '--timeout <time>',
        meaning: 'end after such a time without an instance, as in 10m',
      },
      {
        flags: '--hub-timeout <time>',
        meaning: 'end after such a time without the hub, as in 10m; never unless given',
      },
      {
        flags: '--drain-timeout <time>',
        meaning: 'how long instances may take to be drained at the end; 30s unless given',
      },
    ],
    examples: [
      [
        'manyhost agent --connect hub:4747 --key-file key --ca-file hub.pem',
        'runs what the hub says, until Ctrl-C',
      ],
      [
        'manyhost agent --connect hub:4747 --key-file key --tls --label gpu=a100',
        'for services that require a gpu',
      ],
      [
        'manyhost agent --connect unix:/run/hub.sock --max-instances 4 --timeout 10m',
        'for a batch job: ends when it has been idle',
      ],
    ],
    load: () => import('./agent.ts'),
  },
  {
    name: 'status',
    group: 'Look',
    whenUnread: ({ watch }) => (watch ? 'stop' : 'end'),
    usesAdminAddress: true,
    args: [{ ...SERVICE_ARGUMENT, name: '[service]' }],
    summary: 'show all services, or the instances of one',
    options: [
      JSON_OPTION,
      { flags: '--names', meaning: 'the names of the services only' },
      { flags: '-w, --watch', meaning: 'again every two seconds, until Ctrl-C' },
    ],
    examples: [
      ['manyhost status', 'a line a service'],
      ['manyhost status calc', 'and one an instance'],
      ["manyhost status --json | jq '.clusters[].size'", 'for programs'],
    ],
    load: () => import('./status.ts'),
  },
  {
    name: 'top',
    group: 'Look',
    whenUnread: 'stop',
    usesAdminAddress: true,
    summary: 'watch all services live: rate, latency, queue, what failed; q quits, + and - size',
    examples: [
      ['manyhost top', 'arrows or j k choose a service, + and - change its size, q quits'],
      ['manyhost top | head', 'a line a service and second, when piped'],
    ],
    load: () => import('./top.ts'),
  },
  {
    name: 'logs',
    group: 'Look',
    whenUnread: ({ follow }) => (follow ? 'stop' : 'end'),
    usesAdminAddress: true,
    args: [
      SERVICE_ARGUMENT,
      { name: '[instance]', meaning: 'one of its instances; all of them without' },
    ],
    summary: 'show what instances wrote',
    options: [
      { flags: '-f, --follow', meaning: 'and what they will write, until Ctrl-C' },
      {
        flags: '-n, --lines <count>',
        meaning: 'the last lines of each only',
        parse: parseWholeNumber,
      },
    ],
    examples: [
      ['manyhost logs calc', 'the last 64 KiB of each instance'],
      ['manyhost logs -f -n 10 calc', 'the last ten lines of each, then whatever comes'],
    ],
    load: () => import('./logs.ts'),
  },
  {
    name: 'request',
    group: 'Look',
    whenUnread: 'stop',
    usesAdminAddress: true,
    args: [{ name: '<service/path>', meaning: 'such as calc/add/1/2', completes: 'cluster' }],
    summary: 'send a request to a service, through the admin address',
    options: [
      {
        flags: '-X, --method <method>',
        meaning: 'GET, or POST with a body, unless given',
        parse: parseMethod,
      },
      {
        flags: '-d, --data <text>',
        meaning: 'the body; @file for that of a file, @- for standard input',
      },
      {
        flags: '-H, --header <line>',
        meaning: "a header such as 'Accept: text/html'; may be repeated",
        isRepeatable: true,
      },
      { flags: '-i, --include', meaning: 'status and headers before the body' },
    ],
    examples: [
      ['manyhost request calc/add/1/2', 'prints 3'],
      [
        `manyhost request calc/sums -d '{"of":[1,2]}' -H 'Content-Type: application/json'`,
        'a POST',
      ],
      ['manyhost request calc/files/big -X PUT -d @big.bin', 'a file, streamed'],
    ],
    load: () => import('./request.ts'),
  },
  {
    name: 'size',
    group: 'Steer',
    usesAdminAddress: true,
    args: [
      SERVICE_ARGUMENT,
      { name: '[instances]', meaning: 'how many there shall be; without, says the size' },
    ],
    summary: 'change how many instances a service has',
    options: [NO_WAIT_OPTION],
    examples: [
      ['manyhost size calc 5', 'five, and waits until they are ready'],
      ['manyhost size calc 0 --no-wait', 'none; requests wait'],
      ['manyhost size calc', 'says the size'],
    ],
    load: () => import('./size.ts'),
  },
  {
    name: 'restart',
    group: 'Steer',
    usesAdminAddress: true,
    args: [
      SERVICE_ARGUMENT,
      { name: '[instance]', meaning: 'one of its instances; all of them without' },
    ],
    summary: 'replace instances one by one, without losing a request',
    options: [NO_WAIT_OPTION],
    examples: [
      ['manyhost restart calc', 'all of them, each when a new one is ready'],
      ['manyhost restart calc calc-2cd13273-1', 'only this one'],
    ],
    load: () => import('./restart.ts'),
  },
  ...FEED_COMMANDS,
  {
    name: 'completion',
    group: 'Shell',
    whenUnread: 'end',
    args: [{ name: '<shell>', meaning: 'bash, zsh or fish' }],
    summary: 'print what completes commands in a shell',
    examples: [
      ['source <(manyhost completion bash)', 'in ~/.bashrc; the same with zsh in ~/.zshrc'],
      ['manyhost completion fish | source', 'in ~/.config/fish/config.fish'],
    ],
    load: () => import('./completion.ts'),
  },
]
