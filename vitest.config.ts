import { availableParallelism } from 'node:os'
import { defineConfig } from 'vitest/config'

/** `unit`: decisions, with a false clock, in seconds. `integration`: real servers and child processes.
 * `engines`: real programs of others, which `npm run test:engines` installs. */
export default defineConfig({
  test: {
    // Builds `dist` if it is older than the sources, so that no test runs an old build.
    globalSetup: 'test/build.ts',
    // No test is about them: they find hangs, on a machine with other things to do.
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Tests with real servers and processes wait more than they compute: one alone would leave two cores half idle.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    projects: [
      {
        extends: true,
        test: { name: 'unit', include: ['test/**/*.unit.test.ts'] },
      },
      {
        extends: true,
        test: {
          name: 'integration',
          include: ['test/**/*.test.ts'],
          exclude: ['test/**/*.unit.test.ts', 'test/engines/**', 'node_modules/**'],
        },
      },
      {
        extends: true,
        test: {
          name: 'engines',
          include: ['test/engines/**/*.engine.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          // Each engine wants the machine for itself: what is measured beside another one says nothing.
          fileParallelism: false,
        },
      },
    ],
  },
})
