/** The commands of `manyhost feed` and their options. */
import type { CliCommand, CliOption } from '../command.ts'
import { parseWholeNumber } from '../option-values.ts'

/** The options of all commands that connect to a broker. */
const PEER_OPTIONS: readonly CliOption[] = [
  {
    flags: '-c, --chan <channel>',
    meaning: 'name of a channel; may be repeated',
    isRepeatable: true,
  },
  { flags: '-i, --ident <ident>', meaning: 'identity at the broker (env MANYHOST_FEED_IDENT)' },
  {
    flags: '--secret-file <file>',
    meaning:
      'file with the secret of the identity (env MANYHOST_FEED_SECRET has the secret itself)',
  },
  {
    flags: '-s, --secret <secret>',
    meaning: 'refused: every user of this machine can read the arguments of a process',
    exposureReason: () =>
      'every user of this machine can read arguments: use MANYHOST_FEED_SECRET or --secret-file',
  },
  { flags: '--host <host>', meaning: 'host of the broker; 127.0.0.1 unless given' },
  {
    flags: '-p, --port <port>',
    meaning: 'port of the broker; 20000 unless given',
    parse: parseWholeNumber,
  },
  { flags: '--unix <path>', meaning: 'unix socket of the broker, instead of host and port' },
  { flags: '--tls', meaning: 'connect with TLS' },
  {
    flags: '--tlscert <file>',
    meaning: 'connect with TLS, and trust the certificates in this file',
  },
  { flags: '--debug', meaning: 'report on standard error when the connection comes and goes' },
]

export const FEED_COMMANDS: readonly CliCommand[] = [
  {
    name: 'feed broker',
    group: 'Feed',
    summary: 'pass messages between clients that have the right to, until Ctrl-C',
    options: [
      {
        flags: '-e, --endpoint <endpoint>',
        meaning:
          "where to listen: host:port, unix:/path, or hpfeeds' tls:interface=...; may be repeated",
        isRepeatable: true,
      },
      {
        flags: '--bind <host:port>',
        meaning: 'where to listen; 127.0.0.1:20000 unless an endpoint is given',
      },
      { flags: '--tlscert <file>', meaning: 'certificate for --bind, PEM' },
      { flags: '--tlskey <file>', meaning: 'private key of the certificate, PEM' },
      {
        flags: '--auth <source>',
        meaning:
          'where the identities are: a .json, .yaml or .sqlite file, postgresql://..., or env; env unless given; may be repeated',
        isRepeatable: true,
      },
      {
        flags: '--exporter <host:port>',
        meaning: 'serve /metrics, /healthz and, for browsers and curl, /feed over HTTP',
      },
      { flags: '--name <name>', meaning: 'name of the broker' },
      { flags: '--patterns', meaning: 'a * in a right stands for any characters' },
      {
        flags: '--history <messages>',
        meaning: 'messages of each channel that are kept for clients that resume over HTTP',
        parse: parseWholeNumber,
      },
      { flags: '--debug', meaning: 'report on standard error which clients come and go' },
    ],
    examples: [
      [
        'manyhost feed broker --auth people.yaml',
        'listens on 127.0.0.1:20000, and reads the file again when it changes',
      ],
      [
        'manyhost feed broker -e tls:interface=0.0.0.0:port=20001:key=k.pem:cert=c.pem --auth db.sqlite',
        'listens with TLS, for other machines',
      ],
      [
        'manyhost feed broker --auth people.json --exporter 127.0.0.1:9431',
        'with metrics and HTTP',
      ],
    ],
    load: () => import('./broker.ts'),
  },
  {
    name: 'feed subscribe',
    group: 'Feed',
    // With `--output` the command goes on: its file is being read, whatever happens to standard output.
    whenUnread: ({ output }) => (output === undefined ? 'stop' : 'goOn'),
    summary: 'print the messages of channels, until Ctrl-C',
    options: [
      ...PEER_OPTIONS,
      { flags: '--json', meaning: 'print JSON' },
      { flags: '-o, --output <file>', meaning: 'append the messages to this file, too' },
      {
        flags: '-n, --count <messages>',
        meaning: 'end after this number of messages',
        parse: parseWholeNumber,
      },
    ],
    examples: [
      [
        'manyhost feed subscribe -i alice --secret-file alice.secret -c logs',
        'prints one line for each message',
      ],
      [
        'manyhost feed subscribe -i alice -c manyhost.instance --json | jq .text',
        'the texts, for a program',
      ],
    ],
    load: () => import('./subscribe.ts'),
  },
  {
    name: 'feed publish',
    group: 'Feed',
    args: [{ name: '[text...]', meaning: 'the message; each line of standard input unless given' }],
    summary: 'publish messages on channels',
    options: PEER_OPTIONS,
    examples: [
      [
        "manyhost feed publish -i alice -c logs 'all is well'",
        'ends with exit code 6 if the broker refuses it',
      ],
      [
        'tail -f app.log | manyhost feed publish -i alice -c logs',
        'publishes one message for each line',
      ],
    ],
    load: () => import('./publish.ts'),
  },
  {
    name: 'feed sendfile',
    group: 'Feed',
    args: [{ name: '<file>', meaning: 'file to send', completes: 'file' }],
    summary: 'publish a file as one message',
    options: PEER_OPTIONS,
    examples: [['manyhost feed sendfile -i alice -c samples sample.bin', 'publishes up to 1 MiB']],
    load: () => import('./sendfile.ts'),
  },
]
