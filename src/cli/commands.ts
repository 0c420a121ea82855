/** The table of commands, but for those of tasks and `completion`. See `all-commands.ts`. */
import { AGENT_COMMAND } from './agent-command.ts'
import type { CliCommand } from './command.ts'
import { FEED_COMMANDS } from './feed/commands.ts'
import { parseMethod, parseWholeNumber } from './option-values.ts'

const FLEET_FILE_ARGUMENT = {
  name: '[fleet.yaml]',
  meaning: 'the fleet file',
  completes: 'file',
} as const
const SERVICE_ARGUMENT = {
  name: '<service>',
  meaning: 'name of the service, such as calc, or its URL',
  completes: 'cluster',
} as const
const JSON_OPTION = { flags: '--json', meaning: 'print JSON' }
const NO_WAIT_OPTION = { flags: '--no-wait', meaning: 'do not wait for the end' }

/** Commands that only have others below them. */
export const PARENT_COMMANDS: Readonly<Record<string, Pick<CliCommand, 'summary' | 'group'>>> = {
  tasks: { group: 'Batch', summary: 'run tasks that a store keeps until they have an outcome' },
  config: {
    group: 'Batch',
    summary: 'print or change the files with defaults for the commands of tasks',
  },
  feed: { group: 'Feed', summary: 'publish and receive messages on named channels (hpfeeds)' },
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
        meaning: 'format of the log; pretty on a terminal and json elsewhere unless given',
        choices: ['pretty', 'json', 'quiet'],
      },
    ],
    examples: [
      [
        'manyhost serve fleet.yaml',
        'opens the gateway, the admin address and the dashboard of the file',
      ],
      ['manyhost serve --watch', 'applies each change of ./fleet.yaml without losing a request'],
      ['manyhost serve fleet.yaml --log json | jq .msg', 'the log as JSON lines'],
    ],
    load: () => import('./serve.ts'),
  },
  {
    name: 'check',
    group: 'Serve',
    args: [FLEET_FILE_ARGUMENT],
    summary: 'report all errors of a fleet file at once',
    options: [
      JSON_OPTION,
      { flags: '--schema', meaning: 'print the JSON Schema of fleet files instead' },
    ],
    examples: [
      ['manyhost check fleet.yaml', 'ends with exit code 3 if the file has errors'],
      ['manyhost check --schema > fleet.schema.json', 'a schema for editors'],
    ],
    load: () => import('./check.ts'),
  },
  {
    name: 'init',
    group: 'Serve',
    args: [FLEET_FILE_ARGUMENT],
    summary: 'write a commented fleet file to start from',
    options: [{ flags: '-f, --force', meaning: 'overwrite an existing file' }],
    examples: [
      ['manyhost init', 'writes ./fleet.yaml'],
      ['manyhost init my/fleet.yaml', 'writes another file'],
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
      { flags: '--names', meaning: 'print only the names of the services' },
      { flags: '-w, --watch', meaning: 'print again every two seconds, until Ctrl-C' },
    ],
    examples: [
      ['manyhost status', 'one line for each service'],
      ['manyhost status calc', 'and one line for each instance of calc'],
      ["manyhost status --json | jq '.clusters[].size'", 'the sizes, for a program'],
    ],
    load: () => import('./status.ts'),
  },
  {
    name: 'top',
    group: 'Look',
    whenUnread: 'stop',
    usesAdminAddress: true,
    summary:
      'watch all services: rates, latencies, queues, failures; q quits, + and - change a size',
    examples: [
      ['manyhost top', 'arrows or j and k select a service, + and - change its size, q quits'],
      ['manyhost top | head', 'one line for each service each second, when piped'],
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
      { name: '[instance]', meaning: 'id of one instance; all instances unless given' },
    ],
    summary: 'print the output of instances',
    options: [
      { flags: '-f, --follow', meaning: 'go on with new output, until Ctrl-C' },
      {
        flags: '-n, --lines <count>',
        meaning: 'print only the last lines of each instance',
        parse: parseWholeNumber,
      },
    ],
    examples: [
      ['manyhost logs calc', 'prints the last 64 KiB of each instance'],
      ['manyhost logs -f -n 10 calc', 'prints the last ten lines of each, then new output'],
    ],
    load: () => import('./logs.ts'),
  },
  {
    name: 'request',
    group: 'Look',
    whenUnread: 'stop',
    usesAdminAddress: true,
    args: [
      {
        name: '<service/path>',
        meaning: 'service and path, such as calc/add/1/2',
        completes: 'cluster',
      },
    ],
    summary: 'send a request to a service, through the admin address',
    options: [
      {
        flags: '-X, --method <method>',
        meaning: 'method; GET unless given, or POST if there is a body',
        parse: parseMethod,
      },
      {
        flags: '-d, --data <text>',
        meaning: 'body of the request; @FILE reads a file, @- standard input',
      },
      {
        flags: '-H, --header <line>',
        meaning: "header such as 'Accept: text/html'; may be repeated",
        isRepeatable: true,
      },
      { flags: '-i, --include', meaning: 'print status and headers before the body' },
    ],
    examples: [
      ['manyhost request calc/add/1/2', 'prints 3'],
      [
        `manyhost request calc/sums -d '{"of":[1,2]}' -H 'Content-Type: application/json'`,
        'sends a POST',
      ],
      ['manyhost request calc/files/big -X PUT -d @big.bin', 'streams a file'],
    ],
    load: () => import('./request.ts'),
  },
  {
    name: 'size',
    group: 'Steer',
    usesAdminAddress: true,
    args: [
      SERVICE_ARGUMENT,
      { name: '[instances]', meaning: 'new number of instances; prints the size unless given' },
    ],
    summary: 'change how many instances a service has',
    options: [NO_WAIT_OPTION],
    examples: [
      ['manyhost size calc 5', 'waits until five instances are ready'],
      ['manyhost size calc 0 --no-wait', 'stops all instances; requests wait'],
      ['manyhost size calc', 'prints the size'],
    ],
    load: () => import('./size.ts'),
  },
  {
    name: 'restart',
    group: 'Steer',
    usesAdminAddress: true,
    args: [
      SERVICE_ARGUMENT,
      { name: '[instance]', meaning: 'id of one instance; all instances unless given' },
    ],
    summary: 'replace instances one by one, without losing a request',
    options: [NO_WAIT_OPTION],
    examples: [
      ['manyhost restart calc', 'replaces all instances, each as soon as a new one is ready'],
      ['manyhost restart calc calc-2cd13273-1', 'replaces only this instance'],
    ],
    load: () => import('./restart.ts'),
  },
  ...FEED_COMMANDS,
]
