/** The file that `manyhost init` writes. It runs unchanged, and its comments show further options. */

export function starterConfig(): string {
  return `# yaml-language-server: $schema=./node_modules/manyhost/schema/fleet.schema.json
#
# A fleet: services, each served by a cluster of instances at one virtual URL.
#   manyhost check fleet.yaml     reports mistakes in this file
#   manyhost serve fleet.yaml     runs it; SIGHUP or --watch applies changes without losing a request
#
# A bare time is milliseconds, or it has a unit (30s, 5m, 2h). A bare size is bytes, or it has a unit (512KiB, 1MiB, 2GB).
# \${NAME}, \${NAME:-default} and \${file:path} are substituted in values; '$\${' stands for '\${' itself.
# Paths are relative to this file.

services:
  http://calc:
    # Starts one instance, which must listen on the HOST and PORT of its environment.
    command: [node, calculator.js]
    # How many instances: a number, a range that follows the queue (1..8), or a load balancer:
    #   { balancer: queue-length | target-in-flight | simple | idle-to-zero, min: 0, max: 8, ... }
    size: 2
    # Requests that one instance serves at the same time.
    concurrency: 4
    # An instance is ready when this answers 2xx; without it, as soon as it accepts connections.
    # ready: /health
    # health: { path: /health, interval: 5s, threshold: 3 }
    # timeout: 30s                  # for a whole request; 0 for no limit
    # queueTimeout: 10s             # for the time that a request waits for an instance
    # resend: always                # or idempotent, or never: which requests are sent again when an instance fails
    # env: { MODE: production, API_KEY: "\${API_KEY}" }
    # gateway:
    #   hosts: [calc.example.com]   # beside calc and calc.localhost
    #   path: /calc                 # path prefix; it is removed unless strip is false
    #   auth: { bearer: ["\${file:calc.token}"] }
    #   cors: { origins: ["https://example.com"] }
    #   waitingPage: true           # for browsers, while the first instance starts

# Where instances run. A service names one of these: provider: ready-made
# providers:
#   ready-made: { type: static, urls: ["http://10.0.0.7:8000", "http://10.0.0.8:8000"] }

# session:
#   tickInterval: 1s                # between two readings of each size
#   budget: { instances: 16 }       # limit for all services together

gateway:
  # http://127.0.0.1:8080/calc/add/1/2, or with the header Host: calc
  listen: 127.0.0.1:8080
  # tls: { cert: tls/cert.pem, key: tls/key.pem }
  # trustedProxies: [10.0.0.0/8]
  # limits: { bodySize: 10MiB, headerTime: 10s, connections: 10000 }

# The dashboard, the API, and /metrics. A token is required if other machines can connect.
admin:
  listen: 127.0.0.1:9090
  # token: \${MANYHOST_TOKEN}

log: { level: info, format: auto }
`
}
