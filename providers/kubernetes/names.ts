/** The names and labels of our pods. */
import { createHash } from 'node:crypto'

export const SESSION_LABEL = 'manyhost/session'
export const INSTANCE_LABEL = 'manyhost/instance'
/** Annotations, for values that a label may not hold. */
export const SERVICE_ANNOTATION = 'manyhost/service'
export const OWNER_ANNOTATION = 'manyhost/owner'
export const LABELS_ANNOTATION = 'manyhost/labels'

/** The container that the server runs in. A template may add other containers. */
export const SERVER_CONTAINER = 'server'

/** Longest name of a pod, because it is its host name as well. */
const MAX_POD_NAME = 63

/** The name of an instance as the name of a pod. If a character had to be changed, a hash keeps the names different. */
export function podName(id: string): string {
  const plain = `manyhost-${id}`
  const fits = plain
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, '-')
    .replace(/-+$/, '')
  if (fits === plain && fits.length <= MAX_POD_NAME) return plain
  const hash = createHash('sha256').update(id).digest('hex').slice(0, 10)
  return `${fits.slice(0, MAX_POD_NAME - 11).replace(/-+$/, '')}-${hash}`
}

/** Whether a text may be the value of a label. */
export function isLabelValue(value: string): boolean {
  return /^([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?$/.test(value)
}

/** Whether a text may be the name of a label. */
export function isLabelName(name: string): boolean {
  const [prefix, rest] = name.includes('/') ? name.split('/', 2) : [undefined, name]
  const isRight = /^[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?$/.test(rest ?? '')
  return isRight && (prefix === undefined || /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(prefix))
}
