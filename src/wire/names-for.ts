/** The names of one link, or how to make them: the second argument of `dial` and `serve`. */
import type { HostingEnd, PostingEnd } from './ends.ts'
import type { Names } from './names.ts'

/** The same names for every link, or a function that makes the names of each link. */
export type NamesFor = Names | ((po: PostingEnd, ho: HostingEnd) => Names)
