/** `manyhost tasks cluster --mpi` with the `mpirun` of Open MPI. */
import { expect, test } from 'vitest'
import { createFolder, runManyhost } from '../cli/help.ts'
import { withEngine } from './engine.ts'

withEngine('/usr/bin/mpirun', 'mpi', () => {
  /** It asks root whether it is meant. */
  const env = () => ({
    XDG_DATA_HOME: createFolder(),
    OMPI_ALLOW_RUN_AS_ROOT: '1',
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: '1',
  })

  test('each rank is a runner', async () => {
    // The ranks wait for each other: both run at the same time.
    const shared = createFolder()
    const line = `touch ${shared}/{}; until test -e ${shared}/$((1-{})); do sleep 0.05; done; echo $OMPI_COMM_WORLD_RANK`
    const launcher = 'mpirun -n 2 --oversubscribe'
    const ended = await runManyhost(
      ['tasks', 'cluster', '--no-db', '--launcher', launcher, '-t', line],
      { env: env(), input: '0\n1\n' },
    )
    expect(ended.stdout.trim().split('\n').toSorted()).toEqual(['0', '1'])
    expect(ended.code).toBe(0)
  })

  test('--mpi is mpirun as it comes, and its refusal is said', async () => {
    const args = ['tasks', 'cluster', '--no-db', '--mpi']
    const input = 'echo $OMPI_COMM_WORLD_SIZE\n'
    const ended = await runManyhost(args, { env: env(), input })
    expect(ended).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\n$/) })
    const wrong = ['tasks', 'cluster', '--no-db', '--launcher', 'mpirun --no-such-option']
    const refused = await runManyhost(wrong, { env: env(), input })
    expect(refused).toMatchObject({
      code: 5,
      stderr: expect.stringMatching(/ended with \d+: .*; no process is left/),
    })
  })
})
