/** HAProxy, nginx and Caddy, one thread each, in front of servers, where they are on the PATH. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { onServerCore } from './cores.js'

const backends = (urls) => urls.map((url) => new URL(url).host)

/** With every resend that each knows of: they are shown at their best. */
const KINDS = {
  haproxy: {
    port: 18_931,
    file: 'haproxy.cfg',
    args: (path) => ['-f', path],
    config: (urls) => `
global
  nbthread 1
  tune.bufsize 131072
defaults
  mode http
  timeout connect 1s
  timeout client 30s
  timeout server 30s
  retries 10
  retry-on all-retryable-errors
  option redispatch 1
  option http-buffer-request
frontend front
  bind 127.0.0.1:18931
  default_backend servers
backend servers
  balance leastconn
${backends(urls)
  .map((host, i) => `  server s${i} ${host}`)
  .join('\n')}
`,
  },
  nginx: {
    port: 18_932,
    file: 'nginx.conf',
    args: (path) => ['-c', path],
    config: (urls, folder) => `
daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log /dev/null;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  client_body_buffer_size 256k;
  upstream servers {
    least_conn;
    keepalive 64;
${backends(urls)
  .map((host) => `    server ${host} max_fails=1 fail_timeout=1s;`)
  .join('\n')}
  }
  server {
    listen 127.0.0.1:18932;
    keepalive_requests 1000000;
    location / {
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_next_upstream error timeout http_502 http_503 non_idempotent;
      proxy_next_upstream_tries 10;
    }
  }
}
`,
  },
  caddy: {
    port: 18_933,
    file: 'Caddyfile',
    args: (path) => ['run', '--adapter', 'caddyfile', '--config', path],
    config: (urls) => `
{
  admin off
  auto_https off
  log {
    output discard
  }
}
http://127.0.0.1:18933 {
  reverse_proxy ${backends(urls).join(' ')} {
    lb_policy least_conn
    lb_try_duration 5s
    lb_try_interval 20ms
    lb_retry_match {
      method GET POST
    }
    fail_duration 100ms
  }
}
`,
  },
}

/** Names of those that are on the PATH; says loudly which are not. */
export function proxiesFound() {
  return Object.keys(KINDS).filter((name) => {
    if (spawnSync('which', [name]).status === 0) return true
    console.log(
      `\n!!! ${name} is not on the PATH and not compared; on Debian: apt-get install ${name}`,
    )
    return false
  })
}

/** @returns its URL and `stop` */
export async function startProxy(name, urls) {
  const { port, file, args, config } = KINDS[name]
  const folder = mkdtempSync(join(tmpdir(), `manyhost-bench-${name}-`))
  const path = join(folder, file)
  writeFileSync(path, config(urls, folder))
  const [command, ...rest] = onServerCore([name, ...args(path)])
  const env = { ...process.env, GOMAXPROCS: '1' }
  const child = spawn(command, rest, { env, cwd: folder, stdio: 'ignore' })
  const ended = once(child, 'exit')
  for (let tries = 0; tries < 500 && !(await accepts(port)); tries++) await sleep(10)
  const stop = async () => {
    child.kill('SIGKILL')
    await ended
    rmSync(folder, { recursive: true, force: true })
  }
  return { url: `http://127.0.0.1:${port}`, stop }
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('close', () => socket.destroy())
    socket.unref()
  })
}
