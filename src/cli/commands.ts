/** Every command: what it takes, what it says of itself, and where it is. Loaded only when it is called. */

/** Resolves with the exit code. */
type Run = (args: readonly (string | undefined)[], options: never) => Promise<number>

export interface Command {
  /** `serve`; or `feed publish`, which stands below `feed`. */
  readonly name: string
  /** `<needed>`, `[optional]`, with what completes them. */
  readonly args?: readonly { name: string; meaning: string; completes?: 'file' | 'cluster' }[]
  readonly summary: string
  readonly group: 'Batch' | 'Serve' | 'Look' | 'Steer' | 'Feed' | 'Shell'
  readonly options?: readonly Option[]
  /** Whether it talks to the admin address, and has the options for that. */
  readonly admin?: boolean
  readonly examples: readonly (readonly [line: string, meaning: string])[]
  readonly load: () => Promise<{ readonly run: Run }>
}

export interface Option {
  readonly flags: string
  readonly meaning: string
  readonly choices?: readonly string[]
  readonly initial?: string
  /** May be given again and again. */
  readonly many?: boolean
  /** Reads the value. @throws Error with what was expected */
  readonly parse?: (value: string) => unknown
}

export const ADMIN_OPTIONS: readonly Option[] = [
  { flags: '--admin <url>', meaning: 'admin address (env MANYHOST_ADMIN)' },
  {
    flags: '--token-file <file>',
    meaning: 'file with the token for the admin address (env MANYHOST_TOKEN has the token itself)',
  },
]

const FLEET = { name: '[fleet.yaml]', meaning: 'the file', completes: 'file' } as const
const NAME = {
  name: '<service>',
  meaning: 'its name, such as calc, or its whole URL',
  completes: 'cluster',
} as const
const JSON_OPTION = { flags: '--json', meaning: 'as JSON, for programs' }
const WAIT = { flags: '--no-wait', meaning: 'do not wait until it is done' }

/** Commands that only have others below them. */
export const PARENTS: Readonly<Record<string, Pick<Command, 'summary' | 'group'>>> = {
  tasks: { group: 'Batch', summary: 'tasks that are kept until they have an outcome' },
  feed: { group: 'Feed', summary: 'say and hear what happens, on named channels (hpfeeds)' },
}

/** Where the broker is, and who we are. */
const PEER: readonly Option[] = [
  {
    flags: '-c, --chan <channel>',
    meaning: 'channel; may be repeated',
    many: true,
  },
  { flags: '-i, --ident <ident>', meaning: 'who we are (env MANYHOST_FEED_IDENT)' },
  {
    flags: '--secret-file <file>',
    meaning: 'file with our secret (env MANYHOST_FEED_SECRET has the secret itself)',
  },
  {
    flags: '-s, --secret <secret>',
    meaning: 'refused: every user of the machine could read it there',
    parse: () => {
      throw new Error('every user could read it there: use MANYHOST_FEED_SECRET or --secret-file')
    },
  },
  { flags: '--host <host>', meaning: 'name or address of the broker; 127.0.0.1 unless given' },
  { flags: '-p, --port <port>', meaning: 'its port; 20000 unless given', parse: wholeNumber },
  { flags: '--unix <path>', meaning: 'its unix socket, in place of host and port' },
  { flags: '--tls', meaning: 'over TLS' },
  { flags: '--tlscert <file>', meaning: 'over TLS, trusting the certificates in this file' },
  { flags: '--debug', meaning: 'say on standard error what the connection does' },
]

export const COMMANDS: readonly Command[] = [
  {
    name: 'serve',
    group: 'Serve',
    args: [FLEET],
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
    args: [FLEET],
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
    args: [FLEET],
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
        initial: '127.0.0.1:4747',
      },
      {
        flags: '--key-file <file>',
        meaning: 'file with the key of the hub (env MANYHOST_AGENT_KEY has the key itself)',
      },
      {
        flags: '--places <count>',
        meaning: 'instances at a time; the number of processors unless given',
        parse: someNumber,
      },
      {
        flags: '--name <name>',
        meaning: 'what the hub knows this machine by; its own name unless given',
      },
      {
        flags: '-l, --label <label>',
        meaning: 'such as gpu=a100, for services with require.gpu: a100; may be repeated',
        many: true,
      },
      {
        flags: '--cpus <count>',
        meaning: 'processors to give away; all of them unless given',
        parse: amount,
      },
      {
        flags: '--memory <bytes>',
        meaning: 'bytes of memory to give away; all of it unless given',
        parse: amount,
      },
      {
        flags: '--provider <how>',
        meaning: 'what runs the instances here',
        choices: ['process', 'docker', 'podman'],
        initial: 'process',
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
        'manyhost agent --connect unix:/run/hub.sock --places 4 --timeout 10m',
        'for a batch job: ends when it has been idle',
      ],
    ],
    load: () => import('./agent.ts'),
  },
  {
    name: 'status',
    group: 'Look',
    admin: true,
    args: [{ ...NAME, name: '[service]' }],
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
    admin: true,
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
    admin: true,
    args: [NAME, { name: '[instance]', meaning: 'one of its instances; all of them without' }],
    summary: 'show what instances wrote',
    options: [
      { flags: '-f, --follow', meaning: 'and what they will write, until Ctrl-C' },
      {
        flags: '-n, --lines <count>',
        meaning: 'the last lines of each only',
        parse: wholeNumber,
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
    admin: true,
    args: [{ name: '<service/path>', meaning: 'such as calc/add/1/2', completes: 'cluster' }],
    summary: 'send a request to a service, through the admin address',
    options: [
      {
        flags: '-X, --method <method>',
        meaning: 'GET, or POST with a body, unless given',
        parse: token,
      },
      {
        flags: '-d, --data <text>',
        meaning: 'the body; @file for that of a file, @- for standard input',
      },
      {
        flags: '-H, --header <line>',
        meaning: "a header such as 'Accept: text/html'; may be repeated",
        many: true,
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
    admin: true,
    args: [
      NAME,
      { name: '[instances]', meaning: 'how many there shall be; without, says the size' },
    ],
    summary: 'change how many instances a service has',
    options: [WAIT],
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
    admin: true,
    args: [NAME, { name: '[instance]', meaning: 'one of its instances; all of them without' }],
    summary: 'replace instances one by one, without losing a request',
    options: [WAIT],
    examples: [
      ['manyhost restart calc', 'all of them, each when a new one is ready'],
      ['manyhost restart calc calc-2cd13273-1', 'only this one'],
    ],
    load: () => import('./restart.ts'),
  },
  {
    name: 'feed broker',
    group: 'Feed',
    summary: 'pass messages on between those who may, until Ctrl-C',
    options: [
      {
        flags: '-e, --endpoint <endpoint>',
        meaning:
          "where to listen: host:port, unix:/path, or as the original's tls:interface=...; may be repeated",
        many: true,
      },
      { flags: '--bind <host:port>', meaning: '127.0.0.1:20000 unless an endpoint is given' },
      { flags: '--tlscert <file>', meaning: 'certificate for --bind, PEM' },
      { flags: '--tlskey <file>', meaning: 'its private key, PEM' },
      {
        flags: '--auth <source>',
        meaning:
          'who may come: a .json, .yaml or .sqlite file, postgresql://..., or env, which it is unless given; may be repeated',
        many: true,
      },
      {
        flags: '--exporter <host:port>',
        meaning: 'serve /metrics, /healthz and, for browsers and curl, /feed over HTTP',
      },
      { flags: '--name <name>', meaning: 'how it calls itself' },
      { flags: '--patterns', meaning: 'let * in rights stand for any characters' },
      {
        flags: '--history <messages>',
        meaning: 'keep so many of each channel for who resumes over HTTP',
        parse: wholeNumber,
      },
      { flags: '--debug', meaning: 'say on standard error who comes and goes' },
    ],
    examples: [
      ['manyhost feed broker --auth people.yaml', 'on 127.0.0.1:20000; the file is read again'],
      [
        'manyhost feed broker -e tls:interface=0.0.0.0:port=20001:key=k.pem:cert=c.pem --auth db.sqlite',
        'over TLS, for all machines',
      ],
      [
        'manyhost feed broker --auth people.json --exporter 127.0.0.1:9431',
        'with metrics and HTTP',
      ],
    ],
    load: () => import('./feed/broker.ts'),
  },
  {
    name: 'feed subscribe',
    group: 'Feed',
    summary: 'print what is said on channels, until Ctrl-C',
    options: [
      ...PEER,
      JSON_OPTION,
      { flags: '-o, --output <file>', meaning: 'append it to this file as well' },
      { flags: '-n, --count <messages>', meaning: 'end after so many', parse: wholeNumber },
    ],
    examples: [
      ['manyhost feed subscribe -i alice --secret-file alice.secret -c logs', 'a line a message'],
      ['manyhost feed subscribe -i alice -c manyhost.instance --json | jq .text', 'for programs'],
    ],
    load: () => import('./feed/subscribe.ts'),
  },
  {
    name: 'feed publish',
    group: 'Feed',
    args: [
      { name: '[text...]', meaning: 'the message; without, each line of standard input is one' },
    ],
    summary: 'say something on channels',
    options: PEER,
    examples: [
      ["manyhost feed publish -i alice -c logs 'all is well'", 'exit code 6 if it is refused'],
      ['tail -f app.log | manyhost feed publish -i alice -c logs', 'a message a line'],
    ],
    load: () => import('./feed/publish.ts'),
  },
  {
    name: 'feed sendfile',
    group: 'Feed',
    args: [{ name: '<file>', meaning: 'what is sent', completes: 'file' }],
    summary: 'say what is in a file, as one message',
    options: PEER,
    examples: [['manyhost feed sendfile -i alice -c samples sample.bin', 'up to 1 MiB']],
    load: () => import('./feed/sendfile.ts'),
  },
  {
    name: 'completion',
    group: 'Shell',
    args: [{ name: '<shell>', meaning: 'bash, zsh or fish' }],
    summary: 'print what completes commands in a shell',
    examples: [
      ['source <(manyhost completion bash)', 'in ~/.bashrc; the same with zsh in ~/.zshrc'],
      ['manyhost completion fish | source', 'in ~/.config/fish/config.fish'],
    ],
    load: () => import('./completion.ts'),
  },
]

function wholeNumber(value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value)
  throw new Error('expected a whole number from 0 up')
}

function someNumber(value: string): number {
  if (/^[1-9]\d{0,8}$/.test(value)) return Number(value)
  throw new Error('expected a whole number from 1 up')
}

function amount(value: string): number {
  if (/^\d+(\.\d+)?$/.test(value) && Number(value) > 0) return Number(value)
  throw new Error('expected a number above 0')
}

function token(value: string): string {
  if (/^[\w!#$%&'*+.^`|~-]+$/.test(value)) return value.toUpperCase()
  throw new Error('expected the name of a method, such as PUT')
}
