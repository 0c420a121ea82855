/** The type of a table of rules, for options whose type is declared with its documentation. */
import type { Rule } from './options.ts'

/**
 * One rule for each option of `T`. A table that `satisfies RulesOf<T>` cannot miss an option, have one that `T` lacks, or
 * parse an option to another type.
 */
export type RulesOf<T> = { readonly [Name in keyof T]-?: Rule<T[Name] | undefined> }
