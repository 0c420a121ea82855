import { once } from 'node:events'
import { Readable } from 'node:stream'
import { afterEach, describe, expect, test } from 'vitest'
import { InProcessGate, InProcessSocket } from '../../../providers/testing/in-process-socket.ts'
import { type InProcessInstance, inProcess } from '../../../providers/testing/index.ts'
import { requestInstance, start, stopAll } from '../../fakes/in-process.ts'
import { createLatch, runEventLoop } from '../../help.ts'

afterEach(stopAll)

describe('HTTP/1.1 at both ends', () => {
  test('chunks come as they are written; trailers; early hints', async () => {
    const more = createLatch()
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
    const res = await requestInstance(one, '/', { onInfo })
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
    const closed = [createLatch(), createLatch()]
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
    let started = createLatch()
    const aborter = new AbortController()
    const answer = requestInstance(one, '/0', { signal: aborter.signal })
    await started.promise
    aborter.abort()
    await expect(answer).rejects.toThrow()
    await closed[0]?.promise
    started = createLatch()
    const res = await requestInstance(one, '/1')
    res.body.on('error', () => {}).destroy()
    await closed[1]?.promise
    expect(seen).toEqual(['/0 true false', '/1 true false'])
  })

  test("an abort aborts a web handler's signal and cancels its body", async () => {
    const aborted = createLatch()
    const cancelled = createLatch()
    const one = await start(
      inProcess((request: Request) => {
        request.signal.addEventListener('abort', aborted.open)
        const start = (controller: ReadableStreamDefaultController): void =>
          controller.enqueue(Buffer.from('x'))
        return new Response(new ReadableStream({ start, cancel: cancelled.open }))
      }),
    )
    const res = await requestInstance(one)
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
      expect((await (await requestInstance(one, path)).body.text()).length).toBe(200_000)
    }
    await runEventLoop()
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
            void runEventLoop().then(resume)
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
    const res = await requestInstance(one, '/', { method: 'POST', body })
    // Nobody reads yet: the writer comes to a halt.
    await runEventLoop(200)
    const halted = written
    expect(halted).toBeLessThan(bound)
    await runEventLoop(200)
    expect(written).toBe(halted)
    for await (const chunk of res.body) read += chunk.length
    expect(read).toBe(pieces * piece.length)
    expect(most).toBeLessThan(bound)
  })

  test('a connection copies written data: the writer may reuse its buffer', async () => {
    const provider = inProcess((_req, res) => {
      const buffer = Buffer.from('before')
      res.write(buffer, () => buffer.fill('!'))
      res.end('')
    })
    expect(await (await requestInstance(await start(provider))).body.text()).toBe('before')
  })

  test('upgrade: bytes both ways, in flight until it ends, and an end that is seen', async () => {
    const ended = createLatch()
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
    await runEventLoop()
    expect(provider.instances[0]?.inFlight).toBe(0)
  })

  test('`concurrency` is the number of connections', async () => {
    const go = createLatch()
    const provider = inProcess(async (_req, res) => {
      await go.promise
      res.end()
    })
    const one = await start(provider, { concurrency: 2 })
    const all = Promise.all(
      [1, 2, 3, 4, 5].map(() => requestInstance(one).then((res) => res.body.dump())),
    )
    await runEventLoop()
    const instance = provider.instances[0] as InProcessInstance
    expect([instance.inFlight, instance.requests]).toEqual([2, 2])
    go.open()
    await all
    await runEventLoop()
    expect([instance.inFlight, instance.requests]).toEqual([0, 5])
  })
})

test('if a connection ends while a writer waits, that write fails', async () => {
  const [near, far] = InProcessSocket.pair(new InProcessGate())
  const failed = once(near, 'error')
  near.write(Buffer.alloc(1_000_000))
  far.destroy()
  expect((await failed)[0]).toMatchObject({ code: 'EPIPE' })
})
