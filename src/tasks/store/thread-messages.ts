/** What crosses between a program and the thread that its store lives in. All is copied on the way (structured clone). */
import { asError, type ErrorCode, ManyhostError } from '../../core/errors.ts'
import type { SqliteStoreOptions } from './sqlite-store.ts'
import type { Store } from './store.ts'

/** What the thread is started with. */
export interface StoreThreadData {
  readonly path: string
  readonly options: SqliteStoreOptions
}

type StoreMethods = {
  [Name in keyof Store]: Store[Name] extends (...given: never[]) => Promise<unknown> ? Name : never
}

/** What is asked of a store and answered once. */
export type StoreOperation = Exclude<StoreMethods[keyof Store] & string, 'close'>

export interface StoreThreadRequest {
  /** From 1 up; 0 is the opening of the store, which nobody needs to ask for. */
  readonly id: number
  /** A list is opened, read page by page until one is empty, and left. */
  readonly operation: StoreOperation | 'list' | 'page' | 'endList' | 'listen' | 'close'
  readonly args: readonly unknown[]
}

export type StoreThreadResponse =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly failure: StoreThreadFailure }
  /** To those who listen: there may be something to claim. */
  | 'added'

export interface StoreThreadFailure {
  /** Its class does not cross. */
  readonly code: ErrorCode | undefined
  readonly error: Error
}

export function serializeFailure(thrown: unknown): StoreThreadFailure {
  return { code: thrown instanceof ManyhostError ? thrown.code : undefined, error: asError(thrown) }
}

export function restoreError({ code, error }: StoreThreadFailure): Error {
  if (code === undefined) return error
  return new ManyhostError(code, error.message, { cause: error.cause })
}
