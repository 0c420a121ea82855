/** The table of commands, but for those of tasks and `completion`. See `all-commands.ts`. */
import { AGENT_COMMAND } from './agent-command.ts'
import type { CliCommand } from './command.ts'
import { FEED_COMMANDS } from './feed/commands.ts'
import { parseMethod, parseWholeNumber } from './option-values.ts'

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
  AGENT_COMMAND,
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
]
