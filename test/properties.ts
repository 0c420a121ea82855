/**
 * fast-check with a fixed seed. A property of its own choosing draws other values in each run, so that a test fails
 * on one machine and not on the next, and a change is blamed for what was there before. `MANYHOST_SEED=n` draws other
 * values on purpose; a property that fails prints its seed.
 */
import fc from 'fast-check'

fc.configureGlobal({ seed: Number(process.env.MANYHOST_SEED ?? 20_261_201) })

export default fc
