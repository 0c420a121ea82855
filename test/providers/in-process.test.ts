import { once } from 'node:events'
import { Readable } from 'node:stream'
import { type Dispatcher, request } from 'undici'
import { afterEach, describe, expect, test } from 'vitest'
import {
  type InProcessInstance,
  inProcess,
  type WebRequest,
} from '../../providers/testing/index.ts'
import { Line } from '../../providers/testing/line.ts'
import type { Provider, Running, StartSpec } from '../../src/provider.ts'

const running: Running[] = []

async function start(
  provider: Provider,
  spec: Partial<StartSpec> = {},
  signal = new AbortController().signal,
): Promise<Running> {
  const id = `i${running.length + 1}`
  const whole = { id, service: 'http://calc', env: {}, labels: {}, concurrency: 4, onOutput() {} }
  const started = await provider.start({ ...whole, ...spec }, { signal })
  running.push(started)
  return started
}

const ask = (to: Running, path = '/', options: object = {}): Promise<Dispatcher.ResponseData> =>
  request(`http://calc${path}`, { dispatcher: to.dispatcher, ...options })

function latch(): { promise: Promise<void>; open: () => void } {
  let open!: () => void
  const promise = new Promise<void>((resolve) => {
    open = resolve
  })
  return { promise, open }
}

/** A turn of the event loop: all that is under way in memory has come to rest after a few. */
async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.stop(0)))
})

describe('handlers', () => {
  test('a node handler: method, path, headers, body, host of the service', async () => {
    const one = await start(
      inProcess(async (req, res) => {
        const chunks = await req.toArray()
        res.setHeader('x-instance', req.instance)
        res.end(JSON.stringify([req.method, req.url, req.headers.host, String(chunks.join(''))]))
      }),
    )
    const res = await ask(one, '/a?b=1', { method: 'POST', body: 'text' })
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
    const res = await ask(one, '//x?y', { method: 'PUT', body: Readable.from(['a', 'b']) })
    expect(res.statusCode).toBe(201)
    expect(res.headers['set-cookie']).toEqual(['a=1', 'b=2'])
    expect(res.headers['x-instance']).toBe('i1')
    expect(await res.body.text()).toBe('PUT http://calc//x?y ab')
  })

  test('a web handler that does not read the body answers, and the connection goes on', async () => {
    const one = await start(inProcess(() => new Response('no')))
    for (let i = 0; i < 3; i++) {
      const res = await ask(one, '/', { method: 'POST', body: 'x'.repeat(500_000) })
      expect(await res.body.text()).toBe('no')
    }
  })

  test('empty answers, and HEAD', async () => {
    const one = await start(inProcess(() => new Response(null, { status: 204 })))
    expect((await ask(one)).statusCode).toBe(204)
    expect((await ask(one, '/', { method: 'HEAD' })).statusCode).toBe(204)
  })

  test('what a handler throws is a 500 and goes to the output', async () => {
    let output = ''
    const onOutput = (text: string): void => {
      output += text
    }
    const provider = inProcess((_req, res) => {
      if (output) res.write('x')
      throw new Error('no such thing')
    })
    const one = await start(provider, { onOutput })
    const res = await ask(one)
    expect([res.statusCode, await res.body.text()]).toEqual([500, 'no such thing'])
    expect(output).toContain('Error: no such thing\n    at ')
    const cut = ask(one).then((later) => later.body.text())
    await expect(cut).rejects.toMatchObject({ code: 'UND_ERR_SOCKET' })
  })

  test('the style can be said, and a wrong one is told', async () => {
    const one = await start(inProcess((...args: unknown[]) => new Response(String(args.length))))
    expect(await (await ask(one)).body.text()).toBe('1')
    const node = inProcess((...args) => args[1].end('node'), { style: 'node' })
    expect(await (await ask(await start(node))).body.text()).toBe('node')
    const both = inProcess((_req, _res) => new Response('x'))
    expect(await (await ask(await start(both))).body.text()).toContain("style: 'web'")
    const none = inProcess((() => undefined) as never)
    expect(await (await ask(await start(none))).body.text()).toContain("style: 'node'")
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
    await expect(ask(one, '/error')).rejects.toMatchObject({ code: 'UND_ERR_SOCKET' })
    await expect((await ask(one)).body.text()).rejects.toThrow()
  })
})

describe('HTTP/1.1 at both ends', () => {
  test('chunks come as they are written; trailers; early hints', async () => {
    const more = latch()
    const one = await start(
      inProcess(async (_req, res) => {
        res.writeEarlyHints({ link: '</a.css>' })
        res.writeHead(200, { trailer: 'x-sum' })
        res.write('first')
        await more.promise
        res.addTrailers({ 'x-sum': '2' })
        res.end('second')
      }),
    )
    const infos: number[] = []
    const onInfo = ({ statusCode }: { statusCode: number }): void => void infos.push(statusCode)
    const res = await ask(one, '/', { onInfo })
    const seen: string[] = []
    for await (const chunk of res.body) {
      seen.push(String(chunk))
      more.open()
    }
    expect(seen).toEqual(['first', 'second'])
    expect(res.trailers).toEqual({ 'x-sum': '2' })
    expect(infos).toEqual([103])
  })

  test('an abort reaches a node handler, before and in the middle of the answer', async () => {
    const seen: string[] = []
    const closed = [latch(), latch()]
    const one = await start(
      inProcess((req, res) => {
        if (req.url === '/1') res.write('x')
        res.once('close', () => {
          seen.push(`${req.url} ${req.destroyed} ${res.writableFinished}`)
          closed[Number(req.url === '/1')]?.open()
        })
        started.open()
      }),
    )
    let started = latch()
    const aborter = new AbortController()
    const answer = ask(one, '/0', { signal: aborter.signal })
    await started.promise
    aborter.abort()
    await expect(answer).rejects.toThrow()
    await closed[0]?.promise
    started = latch()
    const res = await ask(one, '/1')
    res.body.on('error', () => {}).destroy()
    await closed[1]?.promise
    expect(seen).toEqual(['/0 true false', '/1 true false'])
  })

  test("an abort aborts a web handler's signal and cancels its body", async () => {
    const aborted = latch()
    const cancelled = latch()
    const one = await start(
      inProcess((request: Request) => {
        request.signal.addEventListener('abort', aborted.open)
        const start = (controller: ReadableStreamDefaultController): void =>
          controller.enqueue(Buffer.from('x'))
        return new Response(new ReadableStream({ start, cancel: cancelled.open }))
      }),
    )
    const res = await ask(one)
    await once(res.body, 'readable')
    res.body.on('error', () => {}).destroy()
    await Promise.all([aborted.promise, cancelled.promise])
    expect((one as unknown as InProcessInstance).inFlight).toBe(0)
  })

  test('an ordinary answer is not an abort, with and without keep-alive', async () => {
    const closes: boolean[] = []
    const one = await start(
      inProcess((req, res) => {
        res.once('close', () => closes.push(res.writableFinished))
        if (req.url === '/close') res.setHeader('connection', 'close')
        res.end('x'.repeat(200_000))
      }),
    )
    for (const path of ['/', '/close', '/', '/close']) {
      expect((await (await ask(one, path)).body.text()).length).toBe(200_000)
    }
    await turns()
    expect(closes).toEqual([true, true, true, true])
  })

  test('an end that comes with the last bytes waits for a reader who pauses after them', async () => {
    // undici asserts that no connection ends under a paused parser.
    const one = await start(
      inProcess((_req, res) => {
        res.writeHead(200, { connection: 'close', 'content-length': 2000 })
        res.write('x'.repeat(1000))
        setImmediate(() => res.end('y'.repeat(1000)))
      }),
    )
    const calls = await new Promise<string[]>((resolve, reject) => {
      const seen: string[] = []
      let resume = (): void => {}
      one.dispatcher.dispatch(
        { method: 'GET', path: '/' },
        {
          onConnect() {},
          onHeaders(_status, _headers, goOn) {
            resume = goOn
            return true
          },
          onData(chunk) {
            seen.push(`${chunk.length} bytes`)
            void turns().then(resume)
            return false
          },
          onComplete: () => resolve([...seen, 'end']),
          onError: reject,
        },
      )
    })
    expect(calls).toEqual(['1000 bytes', '1000 bytes', 'end'])
  })

  test('100 MB both ways, with bounded memory and a writer that waits', async () => {
    const piece = Buffer.alloc(64 * 1024, 'x')
    const pieces = 1600
    const bound = 40 * piece.length
    let read = 0
    let written = 0
    let most = 0
    const one = await start(
      inProcess((req, res) => {
        req.pipe(res)
      }),
    )
    const body = Readable.from(
      (async function* () {
        for (let i = 0; i < pieces; i++) {
          written += piece.length
          most = Math.max(most, written - read)
          yield piece
        }
      })(),
    )
    const res = await ask(one, '/', { method: 'POST', body })
    // Nobody reads yet: the writer comes to a halt.
    await turns(200)
    const halted = written
    expect(halted).toBeLessThan(bound)
    await turns(200)
    expect(written).toBe(halted)
    for await (const chunk of res.body) read += chunk.length
    expect(read).toBe(pieces * piece.length)
    expect(most).toBeLessThan(bound)
  })

  test('a line copies what is written: the writer may use its buffer again', async () => {
    const provider = inProcess((_req, res) => {
      const buffer = Buffer.from('before')
      res.write(buffer, () => buffer.fill('!'))
      res.end('')
    })
    expect(await (await ask(await start(provider))).body.text()).toBe('before')
  })

  test('upgrade: bytes both ways, in flight until it ends, and an end that is seen', async () => {
    const ended = latch()
    const provider = inProcess(() => new Response('plain'), {
      upgrade: (req, socket) => {
        socket.write(
          `HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\nx-i: ${req.instance}\r\n\r\n`,
        )
        socket.on('data', (data) => socket.write(`you said ${data}`))
        socket.on('end', () => {
          ended.open()
          socket.end()
        })
      },
    })
    const one = await start(provider)
    const { socket, headers } = await one.dispatcher.upgrade({ path: '/', protocol: 'echo' })
    expect(headers['x-i']).toBe('i1')
    socket.write('hello')
    expect(String((await once(socket, 'data'))[0])).toBe('you said hello')
    expect(provider.instances[0]?.inFlight).toBe(1)
    socket.end()
    await ended.promise
    await turns()
    expect(provider.instances[0]?.inFlight).toBe(0)
  })

  test('`concurrency` is the number of connections', async () => {
    const go = latch()
    const provider = inProcess(async (_req, res) => {
      await go.promise
      res.end()
    })
    const one = await start(provider, { concurrency: 2 })
    const all = Promise.all([1, 2, 3, 4, 5].map(() => ask(one).then((res) => res.body.dump())))
    await turns()
    const instance = provider.instances[0] as InProcessInstance
    expect([instance.inFlight, instance.requests]).toEqual([2, 2])
    go.open()
    await all
    await turns()
    expect([instance.inFlight, instance.requests]).toEqual([0, 5])
  })
})

describe('instances', () => {
  test('are listed in order of their start while they live', async () => {
    const provider = inProcess(() => new Response())
    const [one] = [await start(provider, { id: 'a' }), await start(provider, { id: 'b' })]
    expect(provider.instances.map(({ id }) => id)).toEqual(['a', 'b'])
    await one.stop(0)
    expect(provider.instances.map(({ id }) => id)).toEqual(['b'])
    await provider.close?.()
    expect(provider.instances).toEqual([])
  })

  test('kill resets connections, waiting requests are refused, `exited` says so', async () => {
    const provider = inProcess((_req, res) => void res.write('x'))
    const one = await start(provider, { concurrency: 1 })
    const res = await ask(one)
    const cut = expect(res.body.text()).rejects.toMatchObject({ code: 'ECONNRESET' })
    const refused = expect(ask(one)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    provider.instances[0]?.kill('power cut')
    expect(provider.instances).toEqual([])
    await Promise.all([cut, refused])
    expect(await one.exited).toEqual({ reason: 'killed', detail: 'power cut' })
    await expect(ask(one)).rejects.toThrow()
    const signal = new AbortController().signal
    await expect(one.accepts?.(signal)).rejects.toMatchObject({ code: 'MANYHOST_INSTANCE_ENDED' })
    await one.stop(1000)
    expect((await one.exited).reason).toBe('killed')
  })

  test('a frozen one accepts and does nothing; thawed it goes on where it was', async () => {
    const provider = inProcess(async (req, res) => {
      res.end(String((await req.toArray()).join('').length))
    })
    const one = await start(provider)
    await (await ask(one)).body.dump()
    const [instance] = provider.instances as [InProcessInstance]
    instance.freeze()
    const settled: string[] = []
    const answers = ['/a', '/b'].map((path) =>
      ask(one, path, { method: 'POST', body: 'x'.repeat(300_000) }).finally(() =>
        settled.push(path),
      ),
    )
    await one.accepts?.(new AbortController().signal)
    await turns()
    expect([settled, instance.requests]).toEqual([[], 1])
    instance.thaw()
    for (const answer of answers) expect(await (await answer).body.text()).toBe('300000')
  })

  test('what a handler writes while frozen is held, and a kill still cuts', async () => {
    const written = latch()
    const go = latch()
    const provider = inProcess(async (_req, res) => {
      res.write('1')
      await go.promise
      res.write('2')
      written.open()
    })
    const one = await start(provider)
    const res = await ask(one)
    const seen: string[] = []
    res.body.on('data', (chunk) => seen.push(String(chunk)))
    const failed = once(res.body, 'close').catch((error) => error)
    await turns()
    provider.instances[0]?.freeze()
    go.open()
    await written.promise
    await turns()
    expect(seen).toEqual(['1'])
    provider.instances[0]?.kill()
    expect(await failed).toMatchObject({ code: 'ECONNRESET' })
    expect(seen).toEqual(['1'])
  })

  test('an abort is not seen before the thaw', async () => {
    const seen: string[] = []
    const provider = inProcess((_req, res) => {
      res.write('x')
      res.once('close', () => seen.push('close'))
    })
    const res = await ask(await start(provider))
    provider.instances[0]?.freeze()
    res.body.on('error', () => {}).destroy()
    await turns()
    expect(seen).toEqual([])
    provider.instances[0]?.thaw()
    await turns()
    expect(seen).toEqual(['close'])
  })
})

describe('stop', () => {
  const grace = 60_000

  test('an idle one ends at once', async () => {
    const one = await start(inProcess(() => new Response()))
    await (await ask(one)).body.dump()
    await one.stop(grace)
    expect(await one.exited).toEqual({ reason: 'stopped', detail: 'stopped' })
  })

  test('running requests end first, whole, and new ones are refused', async () => {
    const go = latch()
    const provider = inProcess(async (_req, res) => {
      res.write('a')
      await go.promise
      res.end('b'.repeat(1_000_000))
    })
    const one = await start(provider, { concurrency: 2 })
    const res = await ask(one)
    const stopped = one.stop(grace)
    await expect(ask(one)).rejects.toMatchObject({ code: 'ECONNREFUSED' })
    await expect(one.accepts?.(new AbortController().signal)).rejects.toThrow()
    go.open()
    expect((await res.body.text()).length).toBe(1_000_001)
    await stopped
    expect((await one.exited).detail).toBe('stopped')
    await one.stop(grace)
  })

  test('after the grace it cuts; a second call may shorten it', async () => {
    const one = await start(inProcess((_req, res) => void res.write('x')))
    const res = await ask(one)
    const text = res.body.text()
    const first = one.stop(grace)
    await Promise.all([one.stop(1), first, expect(text).rejects.toThrow()])
    expect(await one.exited).toEqual({ reason: 'stopped', detail: 'stopped, with 1 in flight' })
  })

  test('a frozen one does not notice, idle or not, until it thaws or the grace is over', async () => {
    const provider = inProcess(() => new Response())
    const one = await start(provider)
    await (await ask(one)).body.dump()
    const [instance] = provider.instances as [InProcessInstance]
    instance.freeze()
    const stopped = one.stop(grace)
    await turns()
    expect(provider.instances).toEqual([instance])
    instance.thaw()
    await stopped
    const other = await start(provider)
    provider.instances[0]?.freeze()
    await other.stop(1)
    expect((await other.exited).reason).toBe('stopped')
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

  test('what an in-process instance has no use for is refused', async () => {
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

test('a line that ends while a writer waits fails that write', async () => {
  const { Gate } = await import('../../providers/testing/line.ts')
  const [near, far] = Line.pair(new Gate())
  const failed = once(near, 'error')
  near.write(Buffer.alloc(1_000_000))
  far.destroy()
  expect((await failed)[0]).toMatchObject({ code: 'EPIPE' })
})
