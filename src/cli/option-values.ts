/** What the values of options are read by: each throws what was expected. */

export function parseWholeNumber(value: string): number {
  if (/^\d{1,9}$/.test(value)) return Number(value)
  throw new Error('expected a whole number from 0 up')
}

export function parsePositiveInteger(value: string): number {
  if (/^[1-9]\d{0,8}$/.test(value)) return Number(value)
  throw new Error('expected a whole number from 1 up')
}

export function parsePositiveNumber(value: string): number {
  if (/^\d+(\.\d+)?$/.test(value) && Number(value) > 0) return Number(value)
  throw new Error('expected a number above 0')
}

export function parseMethod(value: string): string {
  if (/^[\w!#$%&'*+.^`|~-]+$/.test(value)) return value.toUpperCase()
  throw new Error('expected the name of a method, such as PUT')
}
