/** The program of the thread that checks by JSON Schemas. It answers the requests of `schema-checks.ts`. */
import { type MessagePort, parentPort } from 'node:worker_threads'
import { createRefusal, Refusal, type ReplyError } from './json.ts'
import { compileSchema } from './schema.ts'
import type { SchemaCheckRequest, SchemaCheckResult } from './schema-checks.ts'

const port = parentPort as MessagePort

port.on('message', ({ id, ...request }: SchemaCheckRequest) => {
  port.postMessage({ id, faults: findFaults(request) } satisfies SchemaCheckResult)
})

function findFaults(request: Omit<SchemaCheckRequest, 'id'>): readonly ReplyError[] | undefined {
  const { schema, name, input, count } = request
  try {
    const checked = compileSchema(JSON.parse(schema), name)
    if (input !== undefined) checked.check({ value: JSON.parse(input), count })
    return undefined
  } catch (error) {
    if (error instanceof Refusal) return error.faults
    return createRefusal(400, 'JSONSchema Validation Error', 'the check failed').faults
  }
}
