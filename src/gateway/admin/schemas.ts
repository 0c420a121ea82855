/** JSON Schemas of what the routes take and give; a test holds them against what they really give. */

type Schema = Readonly<Record<string, unknown>>

const TEXT = { type: 'string' }
const COUNT = { type: 'integer', minimum: 0 }
const MILLISECONDS = { type: 'number', minimum: 0 }
const TIME = { type: 'integer', description: 'Milliseconds since 1970' }

function object(
  properties: Readonly<Record<string, Schema>>,
  optional: readonly string[] = [],
): Schema {
  const required = Object.keys(properties).filter((name) => !optional.includes(name))
  return { type: 'object', properties, required, additionalProperties: false }
}

function ref(name: string): Schema {
  return { $ref: `#/components/schemas/${name}` }
}

const CLUSTER = {
  name: TEXT,
  url: TEXT,
  size: { ...COUNT, description: 'Wanted instances' },
  minSize: COUNT,
  maxSize: { type: ['integer', 'null'], minimum: 0, description: 'null for no limit' },
  concurrency: { type: 'integer', minimum: 1 },
  inFlight: COUNT,
  queue: object({ size: COUNT, oldestAge: MILLISECONDS }),
  instances: { type: 'array', items: ref('Instance') },
  failure: { type: ['string', 'null'], description: 'Why the last start failed' },
  stats: ref('Stats'),
}

export const SCHEMAS: Readonly<Record<string, Schema>> = {
  Status: object({ status: { enum: ['live', 'ready'] } }),
  Size: object({ size: COUNT }),
  Clusters: object({ at: TIME, clusters: { type: 'array', items: ref('Cluster') } }),
  Cluster: object(CLUSTER),
  Instance: object({
    id: TEXT,
    state: { enum: ['pending', 'starting', 'ready', 'unready', 'draining', 'stopped', 'failed'] },
    provider: TEXT,
    address: { type: ['string', 'null'] },
    inFlight: COUNT,
    served: COUNT,
    startedAt: TIME,
  }),
  Stats: object({
    arrivals: COUNT,
    completions: COUNT,
    failures: COUNT,
    resends: COUNT,
    hedges: COUNT,
    executedTwice: COUNT,
    ejections: COUNT,
    latency: ref('Quantiles'),
    queueWait: ref('Quantiles'),
  }),
  Quantiles: object({
    p50: MILLISECONDS,
    p90: MILLISECONDS,
    p99: MILLISECONDS,
    mean: MILLISECONDS,
  }),
  Problem: object(
    {
      type: { type: 'string', format: 'uri-reference' },
      title: TEXT,
      status: { type: 'integer', minimum: 400, maximum: 599 },
      detail: TEXT,
      code: { type: 'string', pattern: '^MANYHOST_' },
      retryable: { type: 'boolean' },
      reasons: { type: 'array', items: TEXT },
    },
    ['code', 'retryable', 'reasons'],
  ),
  Document: { type: 'object' },
}
