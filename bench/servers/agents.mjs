// Plays agents: `agents.mjs ADDRESS COUNT MAX_INSTANCES [PORT]`. Their instances are all one server: at PORT, or here. It says
// that connections are kept, so that tunnels stay open. The key comes by the environment.
import { createServer } from 'node:net'
import { runAgent } from 'manyhost/providers/agent'

const [address, count, maxInstances, given] = process.argv.slice(2)
const ANSWER =
  'HTTP/1.1 200 OK\r\nkeep-alive: timeout=600\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nhi'
const server = createServer({ noDelay: true }, (socket) => {
  socket.on('data', () => socket.write(ANSWER))
  socket.on('error', () => {})
})
await new Promise((up) => server.listen(0, '127.0.0.1', 4_096, up))
const port = Number(given ?? server.address().port)

const provider = {
  name: 'bench',
  capabilities: new Set(['command']),
  start: async () => ({
    dispatcher: undefined,
    address: `http://127.0.0.1:${port}`,
    exited: new Promise(() => {}),
    stop: async () => {},
  }),
}
for (let i = 0; i < Number(count); i++) {
  runAgent({
    address,
    key: process.env.MANYHOST_AGENT_KEY,
    maxInstances: Number(maxInstances),
    name: `agent-${process.pid}-${i}`,
    provider,
  }).catch(() => {})
}
process.send({ ports: [port] })
process.on('disconnect', () => process.exit())
