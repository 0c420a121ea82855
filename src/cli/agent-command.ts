/** The entry of `manyhost agent` in the table of commands. */
import type { CliCommand } from './command.ts'
import { parsePositiveInteger, parsePositiveNumber } from './option-values.ts'

export const AGENT_COMMAND: CliCommand = {
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
}
