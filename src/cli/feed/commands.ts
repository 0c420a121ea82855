/** `manyhost feed`: its commands and their options. */
import type { CliCommand, CliOption } from '../command.ts'
import { parseWholeNumber } from '../option-values.ts'

/** Where the broker is, and who we are. */
const PEER_OPTIONS: readonly CliOption[] = [
  {
    flags: '-c, --chan <channel>',
    meaning: 'channel; may be repeated',
    isRepeatable: true,
  },
  { flags: '-i, --ident <ident>', meaning: 'who we are (env MANYHOST_FEED_IDENT)' },
  {
    flags: '--secret-file <file>',
    meaning: 'file with our secret (env MANYHOST_FEED_SECRET has the secret itself)',
  },
  {
    flags: '-s, --secret <secret>',
    meaning: 'refused: every user of the machine could read it there',
    exposureReason: () =>
      'every user could read it there: use MANYHOST_FEED_SECRET or --secret-file',
  },
  { flags: '--host <host>', meaning: 'name or address of the broker; 127.0.0.1 unless given' },
  { flags: '-p, --port <port>', meaning: 'its port; 20000 unless given', parse: parseWholeNumber },
  { flags: '--unix <path>', meaning: 'its unix socket, in place of host and port' },
  { flags: '--tls', meaning: 'over TLS' },
  { flags: '--tlscert <file>', meaning: 'over TLS, trusting the certificates in this file' },
  { flags: '--debug', meaning: 'say on standard error what the connection does' },
]

export const FEED_COMMANDS: readonly CliCommand[] = [
  {
    name: 'feed broker',
    group: 'Feed',
    summary: 'pass messages on between those who may, until Ctrl-C',
    options: [
      {
        flags: '-e, --endpoint <endpoint>',
        meaning:
          "where to listen: host:port, unix:/path, or as the original's tls:interface=...; may be repeated",
        isRepeatable: true,
      },
      { flags: '--bind <host:port>', meaning: '127.0.0.1:20000 unless an endpoint is given' },
      { flags: '--tlscert <file>', meaning: 'certificate for --bind, PEM' },
      { flags: '--tlskey <file>', meaning: 'its private key, PEM' },
      {
        flags: '--auth <source>',
        meaning:
          'who may come: a .json, .yaml or .sqlite file, postgresql://..., or env, which it is unless given; may be repeated',
        isRepeatable: true,
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
        parse: parseWholeNumber,
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
    load: () => import('./broker.ts'),
  },
  {
    name: 'feed subscribe',
    group: 'Feed',
    // With a file, that is its work.
    whenUnread: ({ output }) => (output === undefined ? 'stop' : 'goOn'),
    summary: 'print what is said on channels, until Ctrl-C',
    options: [
      ...PEER_OPTIONS,
      { flags: '--json', meaning: 'as JSON, for programs' },
      { flags: '-o, --output <file>', meaning: 'append it to this file as well' },
      { flags: '-n, --count <messages>', meaning: 'end after so many', parse: parseWholeNumber },
    ],
    examples: [
      ['manyhost feed subscribe -i alice --secret-file alice.secret -c logs', 'a line a message'],
      ['manyhost feed subscribe -i alice -c manyhost.instance --json | jq .text', 'for programs'],
    ],
    load: () => import('./subscribe.ts'),
  },
  {
    name: 'feed publish',
    group: 'Feed',
    args: [
      { name: '[text...]', meaning: 'the message; without, each line of standard input is one' },
    ],
    summary: 'say something on channels',
    options: PEER_OPTIONS,
    examples: [
      ["manyhost feed publish -i alice -c logs 'all is well'", 'exit code 6 if it is refused'],
      ['tail -f app.log | manyhost feed publish -i alice -c logs', 'a message a line'],
    ],
    load: () => import('./publish.ts'),
  },
  {
    name: 'feed sendfile',
    group: 'Feed',
    args: [{ name: '<file>', meaning: 'what is sent', completes: 'file' }],
    summary: 'say what is in a file, as one message',
    options: PEER_OPTIONS,
    examples: [['manyhost feed sendfile -i alice -c samples sample.bin', 'up to 1 MiB']],
    load: () => import('./sendfile.ts'),
  },
]
