import { Readable } from 'node:stream'
import { afterEach, describe, expect, test } from 'vitest'
import { inProcess, type WebRequest } from '../../../providers/testing/index.ts'
import type { StartSpec } from '../../../src/core/provider.ts'
import { requestInstance, start, stopAll } from '../../fakes/in-process.ts'

afterEach(stopAll)

describe('handlers', () => {
  test('a node handler: method, path, headers, body, host of the service', async () => {
    const one = await start(
      inProcess(async (req, res) => {
        const chunks = await req.toArray()
        res.setHeader('x-instance', req.instance)
        res.end(JSON.stringify([req.method, req.url, req.headers.host, String(chunks.join(''))]))
      }),
    )
    const res = await requestInstance(one, '/a?b=1', { method: 'POST', body: 'text' })
    expect(await res.body.json()).toEqual(['POST', '/a?b=1', 'calc', 'text'])
    expect(res.headers['x-instance']).toBe('i1')
    expect(one.address).toBe('in-process:i1')
  })

  test('a web handler: request, streaming body, status text, cookies', async () => {
    const one = await start(
      inProcess(async (request: WebRequest) => {
        const headers = new Headers({ 'x-instance': request.instance })
        headers.append('set-cookie', 'a=1')
        headers.append('set-cookie', 'b=2')
        const text = `${request.method} ${request.url} ${await request.text()}`
        return new Response(text, { status: 201, statusText: 'Made', headers })
      }),
    )
    const res = await requestInstance(one, '//x?y', {
      method: 'PUT',
      body: Readable.from(['a', 'b']),
    })
    expect(res.statusCode).toBe(201)
    expect(res.headers['set-cookie']).toEqual(['a=1', 'b=2'])
    expect(res.headers['x-instance']).toBe('i1')
    expect(await res.body.text()).toBe('PUT http://calc//x?y ab')
  })

  test('a web handler that does not read the body answers, and the connection goes on', async () => {
    const one = await start(inProcess(() => new Response('no')))
    for (let i = 0; i < 3; i++) {
      const res = await requestInstance(one, '/', { method: 'POST', body: 'x'.repeat(500_000) })
      expect(await res.body.text()).toBe('no')
    }
  })

  test('empty answers, and HEAD', async () => {
    const one = await start(inProcess(() => new Response(null, { status: 204 })))
    expect((await requestInstance(one)).statusCode).toBe(204)
    expect((await requestInstance(one, '/', { method: 'HEAD' })).statusCode).toBe(204)
  })

  test('an error of a handler is a 500 and goes to the output', async () => {
    let output = ''
    const onOutput = (text: string): void => {
      output += text
    }
    const provider = inProcess((_req, res) => {
      if (output) res.write('x')
      throw new Error('no such thing')
    })
    const one = await start(provider, { onOutput })
    const res = await requestInstance(one)
    expect([res.statusCode, await res.body.text()]).toEqual([500, 'no such thing'])
    expect(output).toContain('Error: no such thing\n    at ')
    const cut = requestInstance(one).then((later) => later.body.text())
    await expect(cut).rejects.toMatchObject({ code: 'UND_ERR_SOCKET' })
  })

  test('the style can be set, and a wrong one is reported', async () => {
    const one = await start(inProcess((...args: unknown[]) => new Response(String(args.length))))
    expect(await (await requestInstance(one)).body.text()).toBe('1')
    const node = inProcess((...args) => args[1].end('node'), { style: 'node' })
    expect(await (await requestInstance(await start(node))).body.text()).toBe('node')
    const both = inProcess((_req, _res) => new Response('x'))
    expect(await (await requestInstance(await start(both))).body.text()).toContain("style: 'web'")
    const none = inProcess((() => undefined) as never)
    expect(await (await requestInstance(await start(none))).body.text()).toContain("style: 'node'")
  })

  test('Response.error() and a body that fails cut the connection', async () => {
    const failing = Readable.toWeb(
      Readable.from(
        (async function* () {
          yield Buffer.from('a')
          throw new Error('broken body')
        })(),
      ),
    )
    const one = await start(
      inProcess((request: Request) =>
        request.url.endsWith('/error') ? Response.error() : new Response(failing as never),
      ),
    )
    await expect(requestInstance(one, '/error')).rejects.toMatchObject({ code: 'UND_ERR_SOCKET' })
    await expect((await requestInstance(one)).body.text()).rejects.toThrow()
  })
})

describe('start', () => {
  test('failStarts: the first ones fail; startDelay ends with its signal', async () => {
    const provider = inProcess(() => new Response(), { failStarts: 2, startDelay: 1 })
    for (let i = 0; i < 2; i++) {
      await expect(start(provider)).rejects.toMatchObject({ code: 'MANYHOST_START_FAILED' })
    }
    await start(provider)
    const slow = inProcess(() => new Response(), { startDelay: 1_000_000 })
    const aborter = new AbortController()
    const starting = start(slow, {}, aborter.signal)
    aborter.abort(new Error('given up'))
    await expect(starting).rejects.toThrow('given up')
    expect(slow.instances).toEqual([])
  })

  test('a service with a command, an image or resources is refused', async () => {
    const provider = inProcess(() => new Response())
    expect(provider.capabilities.size).toBe(0)
    const asks: Partial<StartSpec>[] = [
      { command: ['x'] },
      { startup() {} },
      { image: '' },
      { listen: 'unix' },
      { resources: {} },
    ]
    for (const spec of asks) {
      await expect(start(provider, spec)).rejects.toMatchObject({ code: 'MANYHOST_UNSUPPORTED' })
    }
  })

  test('wrong options are refused by name', () => {
    const handler = (): Response => new Response()
    const wrong: [object, RegExp][] = [
      [{ startDelay: -1 }, /^startDelay must be a number from 0, got -1$/],
      [{ failStarts: 0.5 }, /^failStarts must be a whole number from 0, got 0.5$/],
      [{ style: 'deno' }, /^style must be one of node, web, got "deno"$/],
      [{ upgrade: 1 }, /^upgrade must be a function, got 1$/],
      [{ delay: 1 }, /^an option of inProcess must be one of style, .*, got "delay"$/],
    ]
    for (const [options, message] of wrong) {
      expect(() => inProcess(handler, options)).toThrow(message)
    }
    expect(() => inProcess('x' as never)).toThrow(/must be a function, got "x"/)
  })
})
