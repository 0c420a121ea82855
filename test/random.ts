/**
 * The seeded random generator of the tests: a test that draws from it is the same test each time, and a failure can be
 * repeated by its seed. It is the generator of `faults()` (mulberry32), so that the algorithm exists once.
 */
export { seededRandom } from '../providers/testing/fault-plan.ts'
