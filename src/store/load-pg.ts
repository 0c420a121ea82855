/** The package `pg` is an optional peer: it is loaded when a PostgreSQL is used. */
import type Pg from 'pg'
import { describeError, type ErrorCode, ManyhostError } from '../core/errors.ts'

/**
 * @param user what needs the package, for the message
 * @throws ManyhostError with the given code where the package cannot be loaded
 */
export async function loadPg(user: string, code: ErrorCode): Promise<typeof Pg> {
  try {
    return (await import('pg')).default
  } catch (cause) {
    throw new ManyhostError(
      code,
      `${user} needs the package 'pg' (npm install pg): ${describeError(cause)}`,
      { cause },
    )
  }
}
