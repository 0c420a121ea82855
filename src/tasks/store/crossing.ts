/** What crosses between a program and the thread that its store lives in. All is copied on the way (structured clone). */
import { asError, type ErrorCode, ManyhostError } from '../../core/errors.ts'
import type { FileOptions } from './file.ts'
import type { Store } from './store.ts'

/** What the thread is started with. */
export interface ThreadData {
  readonly path: string
  readonly options: FileOptions
}

type Methods = {
  [Name in keyof Store]: Store[Name] extends (...given: never[]) => Promise<unknown> ? Name : never
}

/** What is asked of a store and answered once. */
export type Asked = Exclude<Methods[keyof Store] & string, 'close'>

export interface Question {
  /** From 1 up; 0 is the opening of the store, which nobody needs to ask for. */
  readonly id: number
  /** A list is opened, read page by page until one is empty, and left. */
  readonly name: Asked | 'list' | 'page' | 'endList' | 'listen' | 'close'
  readonly given: readonly unknown[]
}

export type Answer =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly failure: Failure }
  /** To those who listen: there may be something to claim. */
  | 'added'

export interface Failure {
  /** Its class does not cross. */
  readonly code: ErrorCode | undefined
  readonly error: Error
}

export function failureOf(thrown: unknown): Failure {
  return { code: thrown instanceof ManyhostError ? thrown.code : undefined, error: asError(thrown) }
}

export function errorOf({ code, error }: Failure): Error {
  if (code === undefined) return error
  return new ManyhostError(code, error.message, { cause: error.cause })
}
