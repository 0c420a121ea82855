/** The entry of `manyhost agent` in the table of commands. */
import type { CliCommand } from './command.ts'
import {
  parseDurationOption,
  parsePositiveBytes,
  parsePositiveDuration,
  parsePositiveInteger,
  parsePositiveNumber,
} from './option-values.ts'

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
      meaning:
        'instances that run at the same time, at most; the number of processors unless given',
      parse: parsePositiveInteger,
    },
    {
      flags: '--name <name>',
      meaning: 'name of this machine at the hub; the host name unless given',
    },
    {
      flags: '-l, --label <label>',
      meaning: 'label such as gpu=a100, for services with require.gpu: a100; may be repeated',
      isRepeatable: true,
    },
    {
      flags: '--cpus <count>',
      meaning: 'processors to give away; all of them unless given',
      parse: parsePositiveNumber,
    },
    {
      flags: '--memory <size>',
      meaning: 'memory to give away, such as 8GB; all of it unless given',
      parse: parsePositiveBytes,
    },
    {
      flags: '--provider <how>',
      meaning: 'how instances run on this machine',
      choices: ['process', 'docker', 'podman'],
      defaultValue: 'process',
    },
    { flags: '--tls', meaning: 'use TLS; a known authority has signed the certificate of the hub' },
    {
      flags: '--ca-file <file>',
      meaning: 'use TLS; this certificate (PEM) has signed the certificate of the hub',
    },
    {
      flags: '--fingerprint <sha256>',
      meaning: 'use TLS; the certificate of the hub has this SHA-256',
    },
    {
      flags: '--insecure',
      meaning:
        'dial another machine without TLS: anybody on the way can read and change everything',
    },
    {
      flags: '--timeout <time>',
      meaning: 'end after this time without an instance, such as 10m',
      parse: parsePositiveDuration,
    },
    {
      flags: '--hub-timeout <time>',
      meaning: 'end after this time without the hub, such as 10m; never unless given',
      parse: parsePositiveDuration,
    },
    {
      flags: '--drain-timeout <time>',
      meaning: 'how long the agent waits at its end for instances to drain; 30s unless given',
      parse: parseDurationOption,
    },
  ],
  examples: [
    [
      'manyhost agent --connect hub:4747 --key-file key --ca-file hub.pem',
      'runs the instances that the hub asks for, until Ctrl-C',
    ],
    [
      'manyhost agent --connect hub:4747 --key-file key --tls --label gpu=a100',
      'for services that require this GPU',
    ],
    [
      'manyhost agent --connect unix:/run/hub.sock --max-instances 4 --timeout 10m',
      'for a batch job: ends after ten idle minutes',
    ],
  ],
  load: () => import('./agent.ts'),
}
