import { getEventListeners } from 'node:events'
import { Readable } from 'node:stream'
import { inspect } from 'node:util'
import { describe, expect, it, test } from 'vitest'
import {
  defaultSocketUrl,
  isDockerAddress,
  parseDockerAddress,
} from '../../../providers/docker/address.ts'
import { buildContainerBody } from '../../../providers/docker/container-body.ts'
import { createFrameSplitter } from '../../../providers/docker/demux.ts'
import type { DockerCaller } from '../../../providers/docker/docker-caller.ts'
import { type ContainerEndFacts, exitOfContainer } from '../../../providers/docker/exit.ts'
import { createHttpAgent } from '../../../providers/docker/http-agent.ts'
import { fetchImage, withDefaultTag } from '../../../providers/docker/images.ts'
import { docker } from '../../../providers/docker/index.ts'
import {
  DOCKER_RULES,
  type DockerOptions,
  parseDockerOptions,
} from '../../../providers/docker/options.ts'
import { deferred } from '../../../src/core/deferred.ts'
import type { StartSpec } from '../../../src/core/provider.ts'
import { catchThrown, rejectionOf } from '../../help.ts'
import { specOf } from '../process-help.ts'

describe('why a container ended', () => {
  const plain: ContainerEndFacts = {
    exitCode: 0,
    outOfMemory: false,
    wasKilled: false,
    memory: undefined,
  }
  it.each<[string, Partial<ContainerEndFacts>, string, RegExp]>([
    ['by itself', { exitCode: 3 }, 'exited', /^exit code 3$/],
    ['by itself, well', { exitCode: 0 }, 'exited', /^exit code 0$/],
    ['by a signal', { exitCode: 137 }, 'killed', /^killed by SIGKILL$/],
    ['by another one', { exitCode: 143 }, 'killed', /^killed by SIGTERM$/],
    ['with a code that is no signal', { exitCode: 255 }, 'exited', /255/],
    [
      'out of memory',
      { exitCode: 137, outOfMemory: true, memory: 64 },
      'out-of-memory',
      /64 bytes/,
    ],
    ['most likely so', { exitCode: 137, memory: 64 }, 'out-of-memory', /most likely/],
    ['not so: it was asked for', { exitCode: 137, memory: 64, wasKilled: true }, 'killed', /KILL/],
    ['removed', { exitCode: undefined }, 'lost', /removed/],
  ])('%s', (_, part, reason, detail) => {
    const exit = exitOfContainer({ ...plain, ...part })
    expect(exit.reason).toBe(reason)
    expect(exit.detail).toMatch(detail)
  })
})

describe('output in frames', () => {
  function frame(stream: number, text: string): Buffer {
    const body = Buffer.from(text)
    const head = Buffer.alloc(8)
    head[0] = stream
    head.writeUInt32BE(body.length, 4)
    return Buffer.concat([head, body])
  }

  it('is the same however it is cut', () => {
    const all = Buffer.concat([frame(1, 'out ä'), frame(2, 'err €'), frame(1, ''), frame(1, 'end')])
    for (let size = 1; size <= all.length; size++) {
      const texts = { true: '', false: '' }
      const split = createFrameSplitter((text, isStdout) => {
        texts[`${isStdout}`] += text
      })
      for (let at = 0; at < all.length; at += size) split.take(all.subarray(at, at + size))
      split.end()
      expect(texts).toEqual({ true: 'out äend', false: 'err €' })
    }
  })

  it('is passed on before its frame is complete: a frame with a wrong length holds nothing back', () => {
    let text = ''
    const split = createFrameSplitter((part) => {
      text += part
    })
    const head = Buffer.from([1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])
    split.take(Buffer.concat([head, Buffer.from('at once')]))
    expect(text).toBe('at once')
  })
})

describe('engines', () => {
  it.each([
    ['unix:///run/docker.sock', true],
    ['tcp://10.0.0.1:2375', true],
    ['https://engine.example:2376', true],
    ['tcp://[::1]:2375', true],
    ['unix://relative', false],
    ['ssh://root@host', false],
    ['tcp://user:word@host:1', false],
    ['tcp://host:1/path', false],
    ['10.0.0.1:2375', false],
    ['', false],
  ])('%s', (url, fits) => expect(isDockerAddress(url)).toBe(fits))

  it('are reached at their address', () => {
    expect(parseDockerAddress('unix:///a/b', undefined, {})).toMatchObject({ socketPath: '/a/b' })
    expect(parseDockerAddress('tcp://h', undefined, {})).toMatchObject({ host: 'h', port: 2375 })
    expect(parseDockerAddress('tcp://[::1]:9', undefined, {})).toMatchObject({
      host: '::1',
      port: 9,
    })
  })

  it('behind TLS need certificates, whose content is in no message', () => {
    const error = catchThrown(() => parseDockerAddress('https://h', undefined, {}))
    expect(error.message).toMatch(/certs is missing/)
    const missing = catchThrown(() => parseDockerAddress('tcp://h:2376', '/no/such', {}))
    expect(missing.message).toMatch(/ca\.pem/)
  })

  it('have a default socket', () => {
    expect(defaultSocketUrl('podman', { XDG_RUNTIME_DIR: '/none' })).toMatch(
      /^unix:\/\/\/run\/podman/,
    )
  })
})

describe('images', () => {
  it.each([
    ['node', 'node:latest'],
    ['node:22', 'node:22'],
    ['host:5000/node', 'host:5000/node:latest'],
    ['host:5000/a/node:1', 'host:5000/a/node:1'],
    ['node@sha256:12', 'node@sha256:12'],
  ])('%s', (image, wanted) => expect(withDefaultTag(image)).toBe(wanted))

  /** An engine that counts its pulls, and whose pull goes on until `gate` is resolved. */
  function pullingEngine(gate: Promise<void>): DockerCaller & { readonly pulls: number } {
    let pulls = 0
    const call = async (): Promise<unknown> => {
      pulls++
      await gate
      return Readable.from([])
    }
    return {
      call: call as DockerCaller['call'],
      get pulls() {
        return pulls
      },
    }
  }

  test('starts that wait for the same image share one pull, and leave no listener at their signals', async () => {
    const gate = deferred<void>()
    const engine = pullingEngine(gate.promise)
    const signals = [new AbortController().signal, new AbortController().signal]
    const fetches = signals.map((signal) => fetchImage(engine, 'x', undefined, signal))
    gate.resolve()
    await Promise.all(fetches)
    expect(engine.pulls).toBe(1)
    for (const signal of signals) expect(getEventListeners(signal, 'abort')).toEqual([])
  })

  test('a start that is given up does not wait for its image, and the pull goes on for the others', async () => {
    const gate = deferred<void>()
    const engine = pullingEngine(gate.promise)
    const giveUp = new AbortController()
    const abandoned = fetchImage(engine, 'x', undefined, giveUp.signal)
    const other = fetchImage(engine, 'x', undefined, new AbortController().signal)
    giveUp.abort(new Error('enough'))
    expect((await rejectionOf(abandoned)).message).toBe('enough')
    gate.resolve()
    await other
    expect(engine.pulls).toBe(1)
  })
})

describe('options', () => {
  it.each<[DockerOptions | object, RegExp]>([
    [{ host: 'x' }, /unknown option 'host'/],
    [{ hosts: ['docker'] }, /hosts must be a list of unix:\/\/\/path/],
    [{ hosts: [] }, /hosts must be/],
    [{ pull: 'sometimes' }, /'missing', 'always', 'never'/],
    [{ port: 0 }, /port must be a whole number from 1 to 65535, got 0/],
    [{ ports: [3, 2] }, /from <= to/],
    [{ mounts: ['data'] }, /'\/here:\/there'/],
    [{ cwd: 'relative' }, /an absolute path/],
    [{ auth: { username: 'me', password: 7 } }, /password must be a name/],
    [{ owner: 'a b' }, /owner/],
    [{ create: [] }, /create must be an object/],
  ])('%j', (options, message) => {
    const error = catchThrown(() => docker(options as DockerOptions))
    expect(error.code).toBe('MANYHOST_INVALID_OPTION')
    expect(error.message).toMatch(message)
  })
})

describe('the body of a new container', () => {
  function bodyOf(options: DockerOptions, part: Partial<StartSpec> = {}, publish?: string) {
    return buildContainerBody({
      spec: specOf(part),
      settings: parseDockerOptions('docker', options),
      image: 'i',
      name: 'n',
      labels: { 'manyhost.instance': 'x' },
      env: { A: 'b=c' },
      listenOn: { host: '0.0.0.0', port: 8080 },
      publish,
    })
  }

  it('a command replaces the entrypoint, or is given to it', () => {
    const command = ['node', 'a.js']
    expect(bodyOf({}, { command })).toMatchObject({ Entrypoint: ['node'], Cmd: ['a.js'] })
    const kept = bodyOf({ entrypoint: 'keep' }, { command })
    expect(kept.Cmd).toEqual(command)
    expect(kept.Entrypoint).toBeUndefined()
    expect(bodyOf({}).Cmd).toBeUndefined()
  })

  it('limits, without swap, and a port that only this machine reaches', () => {
    const { HostConfig } = bodyOf({}, { resources: { cpus: 0.5, memory: 1e6 } }, '127.0.0.1')
    expect(HostConfig).toMatchObject({
      NanoCpus: 5e8,
      Memory: 1e6,
      MemorySwap: 1e6,
      RestartPolicy: { Name: 'no' },
      SecurityOpt: ['no-new-privileges'],
      PortBindings: { '8080/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] },
    })
  })

  it('what is given by `create` comes on top, but our labels stay', () => {
    const create = {
      Hostname: 'h',
      Labels: { a: '1', 'manyhost.instance': 'forged' },
      HostConfig: { Init: true, SecurityOpt: [] },
    }
    const body = bodyOf({ create, mounts: ['/a:/b:ro'] }, { labels: { b: '2' } })
    expect(body.Hostname).toBe('h')
    expect(body.Labels).toEqual({ a: '1', b: '2', 'manyhost.instance': 'x' })
    expect(body.HostConfig).toMatchObject({ Init: true, SecurityOpt: [], Binds: ['/a:/b:ro'] })
  })

  it('a folder is relative to that of the provider', () => {
    expect(bodyOf({ cwd: '/srv' }, { cwd: 'app' }).WorkingDir).toBe('/srv/app')
    expect(bodyOf({}, { cwd: '/x' }).WorkingDir).toBe('/x')
    expect(bodyOf({}).WorkingDir).toBeUndefined()
  })
})

it('every option has a row in docs/docker.md', async () => {
  const { readFileSync } = await import('node:fs')
  const text = readFileSync(new URL('../../../docs/docker.md', import.meta.url), 'utf8')
  const rows = [...text.matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name)
  expect(rows).toEqual(Object.keys(DOCKER_RULES))
})

it('docker-modem puts the options of each call into words: no connection of the agent is in them', () => {
  const options = { agent: createHttpAgent(false), path: '/containers/create' }
  expect(inspect(options, { showHidden: true, depth: null })).toBe(
    "{ agent: Agent, path: '/containers/create' }",
  )
})
