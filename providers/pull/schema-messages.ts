/** Says what is wrong with a value in the words of the original's validator, because clients may compare them. */
import type { ErrorObject } from 'ajv'

/** Characters of a value that are shown in a message. */
const MAX_VALUE_LENGTH = 200

export function explainSchemaError({
  keyword,
  params,
  data,
  message,
  instancePath,
}: ErrorObject): string {
  const value = formatAsPython(data)
  switch (keyword) {
    case 'maximum':
      return `${value} is greater than the maximum of ${params.limit}`
    case 'minimum':
      return `${value} is less than the minimum of ${params.limit}`
    case 'type':
      return `${value} is not of type ${[params.type].flat().map(formatAsPython).join(', ')}`
    case 'required':
      return `${formatAsPython(params.missingProperty)} is a required property`
    case 'enum':
      return `${value} is not one of ${formatAsPython(params.allowedValues)}`
    case 'additionalProperties':
      return `Additional properties are not allowed (${formatAsPython(params.additionalProperty)} was unexpected)`
    case 'pattern':
      return `${value} does not match ${formatAsPython(params.pattern)}`
    case 'maxLength':
      return `${value} is too long`
    case 'minLength':
      return `${value} is too short`
    default:
      return `${instancePath || 'the value'} ${message ?? 'is not valid'}`
  }
}

/** Writes a value as Python does. */
function formatAsPython(value: unknown): string {
  const text =
    typeof value === 'string'
      ? `'${value}'`
      : value === undefined
        ? 'None'
        : JSON.stringify(value)
            .replace(/\bnull\b/g, 'None')
            .replace(/\btrue\b/g, 'True')
            .replace(/\bfalse\b/g, 'False')
  return text.length > MAX_VALUE_LENGTH ? `${text.slice(0, MAX_VALUE_LENGTH)}...` : text
}
