/** JSON Schemas of request bodies and replies. A test validates real replies by them. */

type AdminSchema = Readonly<Record<string, unknown>>

const TEXT = { type: 'string' }
const COUNT = { type: 'integer', minimum: 0 }
const MILLISECONDS = { type: 'number', minimum: 0 }
const TIME = { type: 'integer', description: 'Milliseconds since 1970' }

function objectSchema(
  properties: Readonly<Record<string, AdminSchema>>,
  optional: readonly string[] = [],
): AdminSchema {
  const required = Object.keys(properties).filter((name) => !optional.includes(name))
  return { type: 'object', properties, required, additionalProperties: false }
}

function schemaRef(name: string): AdminSchema {
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
  queue: objectSchema({ size: COUNT, oldestAge: MILLISECONDS }),
  instances: { type: 'array', items: schemaRef('Instance') },
  failure: { type: ['string', 'null'], description: 'Why the last start failed' },
  stats: schemaRef('Stats'),
}

export const SCHEMAS: Readonly<Record<string, AdminSchema>> = {
  Status: objectSchema({ status: { enum: ['live', 'ready'] } }),
  Size: objectSchema({ size: COUNT }),
  Clusters: objectSchema({ at: TIME, clusters: { type: 'array', items: schemaRef('Cluster') } }),
  Cluster: objectSchema(CLUSTER),
  Instance: objectSchema({
    id: TEXT,
    state: { enum: ['pending', 'starting', 'ready', 'unready', 'draining', 'stopped', 'failed'] },
    provider: TEXT,
    address: { type: ['string', 'null'] },
    inFlight: COUNT,
    served: COUNT,
    startedAt: TIME,
  }),
  Stats: objectSchema({
    arrivals: COUNT,
    completions: COUNT,
    failures: COUNT,
    resends: COUNT,
    hedges: COUNT,
    executedTwice: COUNT,
    ejections: COUNT,
    latency: schemaRef('Quantiles'),
    queueWait: schemaRef('Quantiles'),
  }),
  Quantiles: objectSchema({
    p50: MILLISECONDS,
    p90: MILLISECONDS,
    p99: MILLISECONDS,
    mean: MILLISECONDS,
  }),
  Problem: objectSchema(
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
