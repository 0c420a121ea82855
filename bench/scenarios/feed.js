/**
 * The broker of the feed, one thread on one core; its peers on another core. Messages of 100 bytes.
 *
 * Self-echo is what the original was measured with (87,700 messages/s): one connection that publishes to a channel
 * that it hears itself, with up to 4,096 messages on their way. Target: twice that. Theory of the fan-out: a message
 * is encoded once by its publisher and passed on as it came, so what is left is a write of the system for each
 * subscriber and batch; the rate of deliveries then grows with the batch, not with the count of messages.
 * 10,000 idle subscribers: memory of the broker before and with them, and after 1,000,000 messages that they do not hear.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { FeedClient } from 'manyhost/feed'
import { pick } from '../lib/args.js'
import { onServerCore } from '../lib/cores.js'
import { median } from '../lib/stats.js'
import { table } from '../lib/table.js'

const SECONDS = pick(1, 3, 10)
const ROUNDS = pick(3, 5, 9)
const WINDOW = 4_096
const PAYLOAD = Buffer.alloc(100, 'x')
const IDENTITY = { ident: 'bench', secret: 'bench', settle: 50 }
const script = fileURLToPath(new URL('../servers/feed.mjs', import.meta.url))

async function openBroker() {
  const [command, ...args] = onServerCore([process.execPath, '--expose-gc', script])
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const [{ port }] = await once(child, 'message')
  const facts = async () => {
    child.send('memory')
    return (await once(child, 'message'))[0]
  }
  return { port, facts, stop: () => child.disconnect() }
}

/** The whole client at both ends of one connection. */
async function clientEcho(broker) {
  const { port } = broker
  const client = new FeedClient({ port, ...IDENTITY })
  client.subscribe('c')
  await client.ready()
  let sent = 0
  let got = 0
  const before = await broker.facts()
  const own = process.cpuUsage()
  const end = performance.now() + SECONDS * 1_000
  const begun = performance.now()
  for (; sent < WINDOW; sent++) client.publish('c', PAYLOAD)
  for await (const _ of client) {
    got++
    if (performance.now() < end) {
      client.publish('c', PAYLOAD)
      sent++
    } else if (got === sent) break
  }
  const rate = got / ((performance.now() - begun) / 1_000)
  const { user, system } = process.cpuUsage(own)
  const after = await broker.facts()
  await client.close()
  return { rate, cpu: (after.cpu - before.cpu) / got, own: (user + system) / got }
}

/** A peer that only counts bytes: the broker is what is measured. */
async function rawEcho(broker) {
  const { socket, frame, prefix } = await rawPeer(broker.port, true)
  const batch = Buffer.concat(Array.from({ length: 256 }, () => frame))
  let got = -prefix
  let sent = 0
  const before = await broker.facts()
  const begun = performance.now()
  const end = begun + SECONDS * 1_000
  const push = () => {
    while (sent - got < WINDOW * frame.length && performance.now() < end) {
      socket.write(batch)
      sent += batch.length
    }
  }
  push()
  await new Promise((resolve) => {
    socket.on('data', (chunk) => {
      got += chunk.length
      push()
      if (performance.now() >= end && got >= sent) resolve()
    })
  })
  const seconds = (performance.now() - begun) / 1_000
  const after = await broker.facts()
  socket.destroy()
  const count = got / frame.length
  return { rate: count / seconds, cpu: (after.cpu - before.cpu) / count }
}

/** Says who it is by hand. `prefix` is how many bytes had come. */
async function rawPeer(port, hears, channel = 'c') {
  const { createHash } = await import('node:crypto')
  const socket = connect(port, '127.0.0.1')
  socket.setNoDelay(true)
  const [info] = await once(socket, 'data')
  const nonce = info.subarray(6 + info[5])
  const hash = createHash('sha1').update(nonce).update('bench').digest()
  socket.write(frameOf(2, '\x05bench', hash))
  if (hears) socket.write(frameOf(4, '\x05bench', Buffer.from(channel)))
  return { socket, frame: frameOf(3, '\x05bench\x01c', PAYLOAD), prefix: 0 }
}

function frameOf(opcode, text, rest) {
  const body = Buffer.concat([Buffer.from(text, 'latin1'), rest])
  const header = Buffer.alloc(5)
  header.writeInt32BE(5 + body.length)
  header[4] = opcode
  return Buffer.concat([header, body])
}

async function fanOut(broker, count) {
  const peers = []
  for (let made = 0; made < count; made += 100) {
    const some = Array.from({ length: Math.min(100, count - made) }, () =>
      rawPeer(broker.port, true),
    )
    peers.push(...(await Promise.all(some)))
  }
  await sleep(100)
  const publisher = await rawPeer(broker.port, false)
  const { frame } = publisher
  const deliveries = pick(1_000_000, 3_000_000, 10_000_000)
  const messages = Math.max(256, Math.floor(deliveries / count / 256) * 256)
  const batch = Buffer.concat(Array.from({ length: 256 }, () => frame))
  const before = await broker.facts()
  const begun = performance.now()
  let missing = count * messages * frame.length
  const slowest = { got: 0 }
  const done = new Promise((resolve) => {
    for (const [index, { socket }] of peers.entries()) {
      socket.on('data', (chunk) => {
        if (index === 0) slowest.got += chunk.length
        missing -= chunk.length
        if (missing <= 0) resolve()
      })
    }
  })
  for (let sent = 0; sent < messages; sent += 256) {
    // No more on its way than readers may have waiting.
    while (sent * frame.length - slowest.got > 2_000_000) await new Promise(setImmediate)
    publisher.socket.write(batch)
  }
  await Promise.race([done, sleep(120_000)])
  const seconds = (performance.now() - begun) / 1_000
  const after = await broker.facts()
  for (const { socket } of [...peers, publisher]) socket.destroy()
  if (missing > 0) console.log(`!!! ${missing} bytes never came`)
  const delivered = count * messages - Math.max(0, missing) / frame.length
  return {
    rate: delivered / seconds,
    cpu: (after.cpu - before.cpu) / delivered,
    mib: (delivered * frame.length) / seconds / 2 ** 20,
  }
}

async function idle(count) {
  const broker = await openBroker()
  const before = await broker.facts()
  const peers = []
  for (let made = 0; made < count; made += 200) {
    const some = Array.from({ length: 200 }, () => rawPeer(broker.port, true, 'idle'))
    peers.push(...(await Promise.all(some)))
  }
  await sleep(500)
  const within = await broker.facts()
  const publisher = await rawPeer(broker.port, false)
  const batch = Buffer.concat(Array.from({ length: 1_000 }, () => publisher.frame))
  for (let i = 0; i < 1_000; i++) {
    if (!publisher.socket.write(batch)) await once(publisher.socket, 'drain')
  }
  await sleep(1_000)
  const after = await broker.facts()
  for (const { socket } of [...peers, publisher]) socket.destroy()
  broker.stop()
  return { before, within, after }
}

const millions = (value) => Math.round(value).toLocaleString('en')
const broker = await openBroker()
// Both ends warm before the clock runs.
await rawEcho(broker)
await clientEcho(broker)
const raw = []
const clients = []
for (let round = 0; round < ROUNDS; round++) {
  raw.push(await rawEcho(broker))
  clients.push(await clientEcho(broker))
}
const of = (rounds, name) => median(rounds.map((round) => round[name]))
const both = of(clients, 'cpu') + of(clients, 'own')
table(
  'feed: one connection that publishes to itself, 100 bytes',
  [
    '',
    'messages/s',
    'x original',
    'us CPU of the broker',
    'of the client',
    'messages/s of CPU, one core',
  ],
  [
    [
      'broker, a peer of bytes',
      millions(of(raw, 'rate')),
      of(raw, 'rate') / 87_700,
      of(raw, 'cpu'),
      '',
      millions(1e6 / of(raw, 'cpu')),
    ],
    [
      'broker and FeedClient',
      millions(of(clients, 'rate')),
      of(clients, 'rate') / 87_700,
      of(clients, 'cpu'),
      of(clients, 'own'),
      millions(1e6 / both),
    ],
  ],
  [
    'target: 175,400 messages/s, twice the original',
    'by CPU: what one core does if it does nothing else; the better figure where others use the machine, too',
  ],
)
const rows = []
for (const count of [1, 10, 100, 1_000]) {
  const { rate, cpu, mib } = await fanOut(broker, count)
  rows.push([`1 to ${count}`, millions(rate), mib, cpu])
}
broker.stop()
table('feed: fan-out', ['', 'deliveries/s', 'MiB/s', 'us CPU of the broker each'], rows)
const { before, within, after } = await idle(10_000)
const mb = ({ rss }) => rss / 2 ** 20
table(
  'feed: idle subscribers',
  ['', 'connections', 'MiB before', 'MiB with them', 'MiB after 1,000,000 messages'],
  [['10,000', within.connections, mb(before), mb(within), mb(after)]],
)
process.exit()
