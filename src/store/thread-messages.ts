/** What a program and the thread that its store lives in send each other. Everything is copied on the way (structured clone). */
import { asError, type ErrorCode, ManyhostError } from '../core/errors.ts'

export interface ThreadRequest {
  /** From 1 up. The answer with the id 0 is that of the opening, which nobody needs to ask for. */
  readonly id: number
  /** `close` ends the thread. All other operations are the store's. */
  readonly operation: string
  readonly args: readonly unknown[]
}

export type ThreadResponse =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly failure: ThreadFailure }
  /** The name of an event that nobody asked for. */
  | string

export interface ThreadFailure {
  /** The class of an error is lost on the way, so its code travels beside it. */
  readonly code: ErrorCode | undefined
  readonly error: Error
}

export function serializeFailure(thrown: unknown): ThreadFailure {
  return { code: thrown instanceof ManyhostError ? thrown.code : undefined, error: asError(thrown) }
}

export function restoreError({ code, error }: ThreadFailure): Error {
  if (code === undefined) return error
  return new ManyhostError(code, error.message, { cause: error.cause })
}
