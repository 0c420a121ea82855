/**
 * The gateway beside other proxies, one thread each, in front of one server that answers at once: proxy on core 0,
 * load and server on core 1. Theory: the floor of any proxy made of node:http and undici is the bare loop of the two
 * (81 us added at 1 in flight when it was measured first). Targets: ahead of Caddy and of every Node proxy, at least
 * 0.85 of the bare loop, at most 110 us added at 1 in flight; 1 GiB up and down at 0.8 of the bare loop's rate in
 * under 100 MB more memory; 10,000 idle keep-alive connections under 200 MB.
 *
 * `node bench/scenarios/gateway.js [--quick|--full] [--only=gateway,bare]`
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Pool } from 'undici'

const flags = process.argv.slice(2)
const isQuick = flags.includes('--quick')
const ROUNDS = isQuick ? 3 : flags.includes('--full') ? 15 : 7
const SECONDS = isQuick ? 1 : 2
const GIB = isQuick ? 2 ** 28 : 2 ** 30
const only = flags
  .find((flag) => flag.startsWith('--only='))
  ?.slice(7)
  .split(',')

const has = (program) => spawnSync('which', [program]).status === 0
const pins = cpus().length >= 2 && has('taskset')
const onCore = (core, command) => (pins ? ['taskset', '-c', String(core), ...command] : command)
const script = (name) => fileURLToPath(new URL(`../servers/${name}.mjs`, import.meta.url))
const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1]
if (!pins) console.log('!!! not pinned to cores: expect noise')
if (pins) spawnSync('taskset', ['-a', '-cp', '1', String(process.pid)])

async function node(core, name, ...args) {
  const [command, ...rest] = onCore(core, [process.execPath, script(name), ...args])
  const child = spawn(command, rest, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const [{ port }] = await once(child, 'message')
  return { child, port }
}

const CONFIGS = {
  nginx: (port, host, folder) => [
    ['nginx', '-c', join(folder, 'conf')],
    `daemon off; master_process off; pid ${folder}/pid; error_log /dev/null;
events { worker_connections 4096; }
http { access_log off; client_body_temp_path ${folder}/a; proxy_temp_path ${folder}/b;
  fastcgi_temp_path ${folder}/c; uwsgi_temp_path ${folder}/d; scgi_temp_path ${folder}/e;
  upstream s { server ${host}; keepalive 64; keepalive_requests 100000000; }
  server { listen 127.0.0.1:${port}; keepalive_requests 100000000;
    location / { proxy_pass http://s; proxy_http_version 1.1; proxy_set_header Connection ""; } } }`,
  ],
  haproxy: (port, host, folder) => [
    ['haproxy', '-f', join(folder, 'conf')],
    `global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 30s\n  timeout server 30s
frontend f\n  bind 127.0.0.1:${port}\n  default_backend s\nbackend s\n  server s ${host}\n`,
  ],
  caddy: (port, host, folder) => [
    ['caddy', 'run', '--adapter', 'caddyfile', '--config', join(folder, 'conf')],
    `{\n  admin off\n  auto_https off\n  log {\n    output discard\n  }\n}
http://127.0.0.1:${port} {\n  reverse_proxy ${host}\n}\n`,
  ],
}

async function program(name, port, upstream) {
  const folder = mkdtempSync(join(tmpdir(), `manyhost-bench-${name}-`))
  const [args, text] = CONFIGS[name](port, `127.0.0.1:${upstream}`, folder)
  writeFileSync(join(folder, 'conf'), `${text}\n`)
  const [command, ...rest] = onCore(0, args)
  const env = { ...process.env, GOMAXPROCS: '1', HOME: folder, XDG_CONFIG_HOME: folder }
  const child = spawn(command, rest, { env, stdio: 'ignore' })
  child.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  for (let tries = 0; tries < 300 && !(await accepts(port)); tries++) await sleep(10)
  return { child, port }
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true) || socket.destroy())
    socket.once('error', () => resolve(false))
  })
}

/** CPU time of a process in us; what others do on the machine does not change it much. */
function cpuOf(pid) {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ')
    return (Number(fields[11]) + Number(fields[12])) * 10_000
  } catch {
    return Number.NaN
  }
}

/** Requests a second, and us of the proxy's CPU for each. */
async function load({ port, child }, inFlight, seconds) {
  const before = cpuOf(child?.pid)
  const rate = await (has('wrk') ? loadByWrk : loadByUndici)(port, inFlight, seconds)
  return { rate, cpu: (cpuOf(child?.pid) - before) / (rate * seconds) }
}

async function loadByWrk(port, inFlight, seconds) {
  const args = ['-t1', `-c${inFlight}`, `-d${seconds}s`, `http://127.0.0.1:${port}/`]
  const [command, ...rest] = onCore(1, ['wrk', ...args])
  const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  for await (const chunk of child.stdout) text += chunk
  const bad = /Non-2xx or 3xx responses: (\d+)|Socket errors: (.*)/.exec(text)
  if (bad) console.log(`  !!! ${port}: ${bad[0]}`)
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1])
}

async function loadByUndici(port, inFlight, seconds) {
  const pool = new Pool(`http://127.0.0.1:${port}`, { connections: inFlight })
  const end = performance.now() + 1_000 * seconds
  let count = 0
  const worker = async () => {
    while (performance.now() < end) {
      const { body } = await pool.request({ path: '/', method: 'GET' })
      await body.text()
      count++
    }
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
  await pool.close()
  return count / seconds
}

const server = await node(1, 'plain')
const upstream = `http://127.0.0.1:${server.port}`
const proxies = { none: { port: server.port } }
const NODE = ['gateway', 'bare', 'http-proxy-3', 'httpxy', 'fast-proxy', '@fastify/http-proxy']
const wanted = (name) => !only || only.includes(name)
for (const kind of NODE.filter(wanted)) proxies[kind] = await node(0, 'proxy', kind, upstream)
for (const [index, name] of Object.keys(CONFIGS).filter(wanted).entries()) {
  if (has(name)) proxies[name] = await program(name, 18_960 + index, server.port)
  else
    console.log(`!!! ${name} is not on the PATH and not compared; Debian: apt-get install ${name}`)
}
const names = Object.keys(proxies)

async function compare(inFlight) {
  const rates = Object.fromEntries(names.map((name) => [name, []]))
  for (let round = -1; round < ROUNDS; round++) {
    for (const name of names) {
      const figures = await load(proxies[name], inFlight, SECONDS)
      if (round >= 0) rates[name].push(figures)
    }
  }
  return rates
}

function show(title, rows) {
  console.log(`\n${title}`)
  for (const row of rows) {
    console.log(
      `  ${row.map((cell, i) => (i === 0 ? cell.padEnd(22) : cell.padStart(14))).join('')}`,
    )
  }
}

const of = (all, pick) => median(all.map(pick))
const besides = (rates, name, pick) =>
  rates.bare ? of(rates[name], (one) => pick(one, rates.bare[rates[name].indexOf(one)])) : 0

for (const inFlight of [16, 64]) {
  const rates = await compare(inFlight)
  show(`GET of 12 bytes, ${inFlight} in flight, ${has('wrk') ? 'wrk' : 'undici'}`, [
    ['', 'req/s', 'x bare loop', 'us CPU/req', 'x bare, by CPU'],
    ...names.map((name) => [
      name,
      of(rates[name], ({ rate }) => rate).toFixed(0),
      besides(rates, name, (one, bare) => one.rate / bare.rate).toFixed(2),
      of(rates[name], ({ cpu }) => cpu).toFixed(1),
      besides(rates, name, (one, bare) => bare.cpu / one.cpu).toFixed(2),
    ]),
  ])
}
const one = await compare(1)
const added = (name) => median(one[name].map(({ rate }, i) => 1e6 / rate - 1e6 / one.none[i].rate))
show('1 in flight (target: at most 110 us added)', [
  ['', 'us/request', 'us added', '- bare loop'],
  ...names.map((name) => [
    name,
    (1e6 / of(one[name], ({ rate }) => rate)).toFixed(0),
    added(name).toFixed(0),
    one.bare ? (added(name) - added('bare')).toFixed(0) : '',
  ]),
])

async function rss({ child }) {
  child.send('memory')
  const [{ rss: bytes }] = await once(child, 'message')
  return bytes / 2 ** 20
}

/** MiB/s, and by how many MB the process grew at most. */
async function transfer(proxy, isUp) {
  const pool = new Pool(`http://127.0.0.1:${proxy.port}`, { bodyTimeout: 0, headersTimeout: 0 })
  const before = await rss(proxy)
  let most = before
  let isDone = false
  const watch = (async () => {
    while (!isDone) {
      most = Math.max(most, await rss(proxy))
      await sleep(50)
    }
  })()
  const begun = performance.now()
  const chunk = Buffer.alloc(65_536, 'y')
  async function* upload() {
    for (let sent = 0; sent < GIB; sent += chunk.length) yield chunk
  }
  const { body } = isUp
    ? await pool.request({
        path: '/',
        method: 'POST',
        body: upload(),
        headers: { 'content-length': GIB },
      })
    : await pool.request({ path: `/bytes/${GIB}`, method: 'GET' })
  let count = 0
  for await (const piece of body) count += isUp ? Number(String(piece)) : piece.length
  const took = performance.now() - begun
  isDone = true
  await watch
  await pool.close()
  if (count !== GIB) throw new Error(`${count} bytes of ${GIB} came through`)
  return { rate: GIB / 2 ** 20 / (took / 1_000), grew: most - before }
}

for (const isUp of [true, false].filter(() => proxies.bare && proxies.gateway)) {
  const rounds = []
  for (let round = 0; round < (isQuick ? 2 : 4); round++) {
    const gateway = await transfer(proxies.gateway, isUp)
    const bare = await transfer(proxies.bare, isUp)
    rounds.push({ gateway, bare })
  }
  show(`${GIB / 2 ** 20} MiB ${isUp ? 'up' : 'down'}`, [
    ['', 'MiB/s', 'grew by MB'],
    [
      'gateway',
      of(rounds, (r) => r.gateway.rate).toFixed(0),
      of(rounds, (r) => r.gateway.grew).toFixed(0),
    ],
    ['bare', of(rounds, (r) => r.bare.rate).toFixed(0), of(rounds, (r) => r.bare.grew).toFixed(0)],
    ['gateway x bare loop', of(rounds, (r) => r.gateway.rate / r.bare.rate).toFixed(2)],
  ])
}

/** Connections that have had one answer each and stay open. */
async function idle(proxy, wantedCount) {
  const sockets = []
  const before = await rss(proxy)
  for (let made = 0; made < wantedCount; ) {
    const batch = Math.min(200, wantedCount - made)
    const opened = await Promise.allSettled(Array.from({ length: batch }, () => ask(proxy.port)))
    const good = opened.filter(({ status }) => status === 'fulfilled').map(({ value }) => value)
    sockets.push(...good)
    made += batch
    if (good.length < batch) break
  }
  await sleep(1_000)
  const after = await rss(proxy)
  for (const socket of sockets) socket.destroy()
  return { count: sockets.length, before, after }
}

function ask(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.write('GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n')
    })
    socket.once('data', () => resolve(socket))
    socket.once('error', reject)
  })
}

if (proxies.gateway) {
  const fresh = await node(0, 'proxy', 'gateway', upstream)
  const { count, before, after } = await idle(fresh, 10_000)
  show(
    `idle keep-alive connections${count < 10_000 ? ` (only ${count} could be made: ulimit -n)` : ''}`,
    [
      ['', 'connections', 'MB before', 'MB with them'],
      ['gateway', String(count), before.toFixed(0), after.toFixed(0)],
    ],
  )
  fresh.child.kill('SIGKILL')
}
for (const { child } of Object.values(proxies)) child?.kill('SIGKILL')
server.child.kill('SIGKILL')
process.exit()
