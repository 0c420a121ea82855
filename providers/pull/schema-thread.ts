/** The program of the thread that checks by JSON Schemas: it answers what `schema-checks.ts` asks. */
import { type MessagePort, parentPort } from 'node:worker_threads'
import { type Fault, Refusal, refuse } from './json.ts'
import { schemaOf } from './schema.ts'
import type { CheckAnswer, CheckQuestion } from './schema-checks.ts'

const port = parentPort as MessagePort

port.on('message', ({ id, ...question }: CheckQuestion) => {
  port.postMessage({ id, faults: faultsOf(question) } satisfies CheckAnswer)
})

function faultsOf(question: Omit<CheckQuestion, 'id'>): readonly Fault[] | undefined {
  const { schema, name, input, count } = question
  try {
    const checked = schemaOf(JSON.parse(schema), name)
    if (input !== undefined) checked.check({ value: JSON.parse(input), count })
    return undefined
  } catch (error) {
    if (error instanceof Refusal) return error.faults
    return refuse(400, 'JSONSchema Validation Error', 'the check failed').faults
  }
}
