/**
 * Conversations: calls one after the other, pipelined calls, notifications, and a blob of 50 MB each way. The floor for
 * calls is the round trip of one small write over plain TCP. The original (HBI, Python) was seen at 7,800 serial calls/s,
 * 28,600 notifications/s and 0.56 s for 50 MB on a machine like this; MANYHOST_BENCH_HBI names the port of one that runs
 * `echo`, `note` and `put`, and is measured in the same run.
 */
import { connect } from 'node:net'
import { dial } from 'manyhost/wire'
import { pick } from '../lib/args.js'
import { rounds } from '../lib/rounds.js'
import { startServers } from '../lib/servers.js'
import { table } from '../lib/table.js'

const BLOB = Buffer.alloc(50_000_000, 'x')
const serial = pick(3_000, 20_000, 60_000)
const many = pick(20_000, 100_000, 400_000)

const server = await startServers('wire')
const [port, plainPort] = server.urls.map((url) => Number(new URL(url).port))
const plain = connect({ port: plainPort, host: '127.0.0.1', noDelay: true })

const peers = {
  manyhost: (await dial({ port }, {})).po,
  'manyhost, as to an original': (await dial({ port, extensions: false }, {})).po,
}
const original = process.env.MANYHOST_BENCH_HBI
if (original) peers['the original'] = (await dial({ port: Number(original) }, {})).po

async function rate(count, run) {
  const begun = performance.now()
  await run()
  return Math.round((1_000 * count) / (performance.now() - begun))
}

function blob(po) {
  return po.co(async (co) => {
    await co.sendCode(`put(${BLOB.length})`)
    await co.sendData(BLOB)
    await co.startRecv()
    return co.recvObj()
  })
}

async function measure(po) {
  return {
    serial: await rate(serial, async () => {
      for (let i = 0; i < serial; i++) await po.call('echo', i)
    }),
    pipelined: await rate(many, async () => {
      for (let i = 0; i < many; i += 1_000) {
        await Promise.all(Array.from({ length: 1_000 }, (_, j) => po.call('echo', i + j)))
      }
    }),
    notifications: await rate(many, async () => {
      for (let i = 0; i < many; i++) await po.notif('note(1)')
      await po.waitCompleted()
    }),
    seconds: (1 / (await rate(1_000, () => blob(po)))) * 1_000,
  }
}

const floor = {
  'plain TCP, one small write': async () => ({
    serial: await rate(serial, async () => {
      for (let i = 0; i < serial; i++) {
        plain.write('[3#co_begin]101[7#]echo(7)[3#co_end]101')
        await new Promise((resolve) => plain.once('data', resolve))
      }
    }),
  }),
}
const contenders = Object.fromEntries(
  Object.entries(peers).map(([name, po]) => [name, () => measure(po)]),
)
const figures = await rounds(contenders, { count: pick(3, 5, 9), base: 'manyhost' })
const plainFigures = await rounds(floor, {
  count: pick(3, 5, 9),
  base: 'plain TCP, one small write',
})
table(
  'wire: one link, one core each side',
  ['', 'serial calls/s', 'pipelined calls/s', 'notifications/s', '50 MB blob, s'],
  [
    ...Object.entries(figures).map(([name, one]) => [
      name,
      one.serial,
      one.pipelined,
      one.notifications,
      one.seconds,
    ]),
    ...Object.entries(plainFigures).map(([name, one]) => [name, one.serial]),
    ['the original, as it was seen', 7_800, undefined, 28_600, 0.56],
  ],
)
plain.destroy()
for (const po of Object.values(peers)) await po.disconnect()
await server.stop()
