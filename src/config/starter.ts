/** The file that `manyhost init` writes: it runs as it stands, and says what else there is. */

export function starterConfig(): string {
  return `# yaml-language-server: $schema=./node_modules/manyhost/schema/fleet.schema.json
#
# A fleet: services, each served by a cluster of instances at one virtual URL.
#   manyhost check fleet.yaml     says what is wrong in here, if anything
#   manyhost serve fleet.yaml     starts it; SIGHUP or --watch applies changes without losing a request
#
# Times are milliseconds, or '30s', '5m', '2h'; sizes of bytes are numbers, or '512KiB', '1MiB'.
# \${NAME}, \${NAME:-default} and \${file:path} are put in for values; '$\${' stands for the characters themselves.
# Paths are relative to this file.

services:
  http://calc:
    # Starts one instance. It listens on the HOST and PORT of its environment.
    command: [node, calculator.js]
    # How many: a number, a range that follows the queue (1..8), or a load balancer by name:
    #   { balancer: queue-length | target-in-flight | simple | idle-to-zero, min: 0, max: 8, ... }
    size: 2
    # Requests that one instance serves at a time.
    concurrency: 4
    # An instance is ready when this answers 2xx; without it, as soon as it accepts connections.
    # ready: /health
    # health: { path: /health, interval: 5s, threshold: 3 }
    # timeout: 30s                  # for a request as a whole; 0 is no limit
    # queueTimeout: 10s             # for its wait for an instance
    # resend: always                # or idempotent, or never: what may be sent again when an instance fails
    # env: { MODE: production, API_KEY: "\${API_KEY}" }
    # gateway:
    #   hosts: [calc.example.com]   # beside calc and calc.localhost
    #   path: /calc                 # and by this prefix, which is stripped unless strip is false
    #   auth: { bearer: ["\${file:calc.token}"] }
    #   cors: { origins: ["https://example.com"] }
    #   waitingPage: true           # for browsers, while the first instance starts

# Where instances run, by a name that a service can say: provider: ready-made
# providers:
#   ready-made: { type: static, urls: ["http://10.0.0.7:8000", "http://10.0.0.8:8000"] }

# session:
#   tickInterval: 1s                # between two looks at each size
#   budget: { instances: 16 }       # that all services may have together

gateway:
  # http://127.0.0.1:8080/calc/add/1/2, or with the header Host: calc
  listen: 127.0.0.1:8080
  # tls: { cert: tls/cert.pem, key: tls/key.pem }
  # trustedProxies: [10.0.0.0/8]
  # limits: { bodySize: 10MiB, headerTime: 10s, connections: 10000 }

# The page to watch and steer it all, and /metrics. It needs a token as soon as others can reach it.
admin:
  listen: 127.0.0.1:9090
  # token: \${MANYHOST_TOKEN}

log: { level: info, format: auto }
`
}
