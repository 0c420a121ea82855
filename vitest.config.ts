import { defineConfig } from 'vitest/config'

/** `unit`: decisions, with a false clock, in seconds. `integration`: real servers and child processes. */
export default defineConfig({
  test: {
    testTimeout: 30_000,
    hookTimeout: 30_000,
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
          exclude: ['test/**/*.unit.test.ts', 'node_modules/**'],
        },
      },
    ],
  },
})
