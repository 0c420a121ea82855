/** What options of servers and runners mean, and what runners are started with. */
import { availableParallelism } from 'node:os'
import { describe, expect, it } from 'vitest'
import { parseRunnerOptions } from '../../../src/tasks/runner/options.ts'
import {
  parseClusterOptions,
  parseServeOptions,
  parseSubmitOptions,
} from '../../../src/tasks/server/options.ts'
import { createRunnerServiceOptions } from '../../../src/tasks/server/runner-service.ts'

const TOKEN = 'a-token-that-is-secret'

function service(options: Parameters<typeof parseClusterOptions>[0]) {
  return createRunnerServiceOptions('http://tasks', parseClusterOptions(options), TOKEN, () => 0)
}

describe('a runner is started', () => {
  it('with what it is to have, and where it is not limited with nothing', () => {
    const [node, program, ...args] = service({}).command ?? []
    expect([node, program]).toEqual([process.execPath, expect.stringMatching(/runner\/main\.js$/)])
    expect(args).toEqual(['--num-tasks', '1'])
    const given = { numTasks: 4, cores: 8, memory: 2_000, rate: 2.5, delayStart: -1_500 }
    expect(service({ ...given, runner: ['ssh', 'n1', 'run'] }).command).toEqual(
      'ssh n1 run --num-tasks 4 --cores 8 --memory 2000 --ratelimit 2.5 --delay-start=-1.5'.split(
        ' ',
      ),
    )
  })

  it('as many times as it is wanted, by the provider that is wanted', () => {
    const provider = { name: 'mine' } as never
    expect(service({ runners: 3, provider })).toMatchObject({ initSize: 3, provider })
    expect(service({})).not.toHaveProperty('provider')
  })

  it('with its token in the environment alone, which other users cannot read (weakness 10)', () => {
    const { command, env } = service({})
    expect(env).toEqual({ MANYHOST_RUNNER_TOKEN: TOKEN })
    expect(command?.join(' ')).not.toContain(TOKEN)
  })

  it('and is taken for lost when it was silent for the eviction time', () => {
    const { health, resend } = service({ evictAfter: 12_000 })
    // Twice as many failures as the threshold replace it.
    expect((health?.interval ?? 0) * (health?.threshold ?? 0) * 2).toBe(12_000)
    expect(service({ evictAfter: 1_000 }).health?.interval).toBe(500)
    // Its tasks go back to the store: the queue must not send them again by itself.
    expect(resend).toBe('never')
  })

  it('and has the time that it delays its start', () => {
    const { startTimeout = 0 } = service({})
    expect(service({ delayStart: 90_000 }).startTimeout).toBe(startTimeout + 90_000)
    expect(service({ delayStart: -90_000 }).startTimeout).toBe(startTimeout + 90_000)
  })
})

describe('options', () => {
  it('numTasks of 0 is as many as the machine has cores', () => {
    expect(parseRunnerOptions({ numTasks: 0 }).numTasks).toBe(availableParallelism())
    expect(parseRunnerOptions({ numTasks: 3 }).numTasks).toBe(3)
  })

  it.each([
    [{ maxRetries: -1 }, /maxRetries must be a whole number from 0 up/],
    [{ bundleSize: 0 }, /bundleSize must be a whole number from 1 up/],
    [{ bundleWait: -1 }, /bundleWait must be milliseconds from 0 up/],
    [{ evictAfter: 999 }, /evictAfter must be milliseconds from 1000 up/],
    [{ poll: 0 }, /poll must be milliseconds above 0/],
    [{ backlog: 0 }, /backlog must be a whole number from 1 up/],
    [{ taskCores: 0 }, /taskCores must be a number above 0/],
    [{ taskMemory: -1 }, /taskMemory must be bytes above 0/],
    [{ group: 1.5 }, /group must be a whole number/],
    [{ kind: 'shell' }, /kind must be 'command', 'json', 'request'/],
    [{ redirectFailures: '' }, /redirectFailures must be a path/],
    [{ token: 'too-short' }, /token must be 16 characters or more/],
    [{ listen: { token: 'too-short' } }, /token must be 16 characters or more/],
    [{ listen: { port: 65_536 } }, /port must be a port from 0 to 65535/],
    [{ listen: { hots: 'x' } }, /hots/],
    [{ template: '{[::0]}' }, /step of a slice/],
    [{ numTasks: 4 }, /unknown option 'numTasks'/],
  ])('of a server that are wrong are refused: %j', (options, message) => {
    expect(() => parseServeOptions(options as object)).toThrow(message)
  })

  it.each([
    [{ numTasks: 4_097 }, /numTasks must be a whole number from 0 to 4096/],
    [{ runners: 0 }, /runners must be a whole number from 1 up/],
    [{ rate: 0 }, /rate must be starts a second, above 0/],
    [{ cores: 0 }, /cores must be a whole number from 1 up/],
    [{ delayStart: Number.NaN }, /delayStart must be milliseconds/],
    [{ autoscaling: 'elastic' }, /autoscaling must be 'fixed', 'dynamic'/],
    [{ runner: [] }, /runner must be a non-empty array of strings/],
  ])('of a cluster that are wrong are refused: %j', (options, message) => {
    expect(() => parseClusterOptions(options as object)).toThrow(message)
  })

  it.each([
    [{ server: 'ftp://x' }, /server must be an http:\/\/ or https:\/\/ address/],
    [{ submitId: 'a b' }, /submitId must be an id/],
    [{ taskTimeout: 0 }, /taskTimeout must be milliseconds above 0/],
    [{ maxRetries: 1 }, /unknown option 'maxRetries'/],
  ])('of a submission that are wrong are refused: %j', (options, message) => {
    expect(() => parseSubmitOptions(options as object)).toThrow(message)
  })

  it('of an address: any port, with a token, and TLS beyond this machine unless insecure', () => {
    expect(parseServeOptions({ listen: {} }).listen).toEqual({
      port: 0,
      anyone: false,
      insecure: false,
    })
  })
})
