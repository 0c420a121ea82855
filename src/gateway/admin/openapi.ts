/** The OpenAPI 3.1 document of the routes. */
import { CSRF_HEADER } from './access.ts'
import type { AdminRoute } from './route.ts'
import { SCHEMAS } from './schemas.ts'

const PARAMETERS = {
  name: {
    name: 'name',
    in: 'path',
    required: true,
    description: 'Host of the virtual URL, such as `calc`, or the whole URL, percent-encoded',
    schema: { type: 'string' },
  },
  id: {
    name: 'id',
    in: 'path',
    required: true,
    description: 'Id of an instance',
    schema: { type: 'string' },
  },
  follow: {
    name: 'follow',
    in: 'query',
    description: 'Whether the response continues with what is written from now on',
    schema: { enum: ['0', '1', 'true', 'false', ''] },
  },
  lines: {
    name: 'lines',
    in: 'query',
    description: 'Only this many of the last lines of each instance',
    schema: { type: 'integer', minimum: 1, maximum: 999_999 },
  },
  wait: {
    name: 'wait',
    in: 'query',
    description: 'Whether the response waits for the end of the restart; its status is 200 then',
    schema: { enum: ['0', '1', 'true', 'false', ''] },
  },
} as const

export function buildOpenApi(routes: readonly AdminRoute[], version: string): object {
  const paths: Record<string, Record<string, object>> = {}
  for (const route of routes) {
    const path = paths[route.path] ?? {}
    paths[route.path] = path
    path[route.method.toLowerCase()] = describeOperation(route)
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'manyhost admin API',
      version,
      description:
        `Calls that change something need \`Content-Type: application/json\` or a header \`${CSRF_HEADER}\`. ` +
        'Without a token, the server accepts only calls to names and addresses of its own machine.',
      license: { name: 'MIT', identifier: 'MIT' },
    },
    servers: [{ url: '/' }],
    security: [{ token: [] }, {}],
    paths,
    components: {
      securitySchemes: { token: { type: 'http', scheme: 'bearer' } },
      schemas: SCHEMAS,
      parameters: PARAMETERS,
      responses: {
        Problem: {
          description: 'The error, as problem details (RFC 9457)',
          content: { 'application/problem+json': { schema: schemaRef('Problem') } },
        },
      },
    },
  }
}

function describeOperation(route: AdminRoute): object {
  const variables = [...route.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name as string)
  const parameters = [...variables, ...(route.query ?? [])]
  const failed = [...(route.failures ?? []), 403, 421, ...(route.needsNoToken ? [] : [401])]
  const found = { description: route.summary, content: describeContent(route) }
  return {
    operationId: route.id,
    summary: route.summary,
    ...(route.needsNoToken && { security: [{}] }),
    ...(parameters.length > 0 && {
      parameters: parameters.map((name) => ({ $ref: `#/components/parameters/${name}` })),
    }),
    ...(route.requestSchema && {
      requestBody: {
        required: true,
        content: { 'application/json': { schema: schemaRef(route.requestSchema) } },
      },
    }),
    responses: {
      [route.success]: found,
      ...(route.query?.includes('wait') && { 200: found }),
      ...Object.fromEntries(failed.map((status) => [status, PROBLEM])),
      default: PROBLEM,
    },
  }
}

const PROBLEM = { $ref: '#/components/responses/Problem' }

function schemaRef(name: string): object {
  return { $ref: `#/components/schemas/${name}` }
}

function describeContent({ id, responseType }: AdminRoute): object {
  if (!responseType.includes('/'))
    return { 'application/json': { schema: schemaRef(responseType) } }
  const asText = { schema: { type: 'string' } }
  if (id === 'metrics') return { [responseType]: asText, 'application/openmetrics-text': asText }
  return { [responseType]: asText }
}
