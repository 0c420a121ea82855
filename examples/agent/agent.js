// Two agents dial the hub in this program, and serve its virtual URLs. Here the agents are processes of this machine. On
// another machine the command would be `manyhost agent --connect hub:4747 --key-file key --max-instances 4 --tls`.
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { Session } from 'manyhost'
import { agents } from 'manyhost/providers/agent'

const key = randomBytes(32).toString('hex')
const hub = agents({ listen: '127.0.0.1:0', key })
const address = await hub.address()
hub.on('agent', ({ agent, change }) => console.log(`agent ${agent} ${change}`))

const main = fileURLToPath(new URL('../../dist/src/cli/main.js', import.meta.url))
function agent(name, ...labels) {
  const flags = ['--connect', address, '--name', name, '--max-instances', '4', ...labels]
  // The key is in the environment, because every user of a machine can read a command line.
  const env = { ...process.env, MANYHOST_AGENT_KEY: key }
  return spawn(process.execPath, [main, 'agent', ...flags], { env, stdio: 'ignore' })
}
const machines = [agent('attic'), agent('cellar', '--label', 'gpu=a100')]

const session = new Session({ provider: hub })
const server = fileURLToPath(new URL('../calculator-server.js', import.meta.url))
session.startup({ url: 'http://calc', command: ['node', server], initSize: 2 })
// This service requires a label, so its instance runs on the agent that has the label.
session.startup(
  { url: 'http://gpu', initSize: 1, labels: { 'require.gpu': 'a100' } },
  async (ctx) => {
    // `ctx` acts on the agent's machine. The function itself runs here.
    console.log(`on the machine with a gpu: ${(await ctx.run('echo', 'hello')).trim()}`)
    await ctx.spawn('node', server)
  },
)

const client = session.client()
const sums = Array.from({ length: 20 }, async (_, i) => {
  const answer = await client.get(`http://calc/add/${i}/${i}`)
  return (await answer.text()).trim()
})
console.log(`results: ${(await Promise.all(sums)).join(' ')}`)
console.log(`with a gpu: ${(await (await client.get('http://gpu/add/1/2')).text()).trim()}`)

// SIGTERM drains the agent: its instances are replaced on the other agent before it ends.
machines[0].kill('SIGTERM')
await once(machines[0], 'exit')
console.log(
  `after one has left: ${(await (await client.get('http://calc/add/20/22')).text()).trim()}`,
)
await session.close()
machines[1].kill('SIGTERM')
await once(machines[1], 'exit')
