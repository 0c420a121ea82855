/** `manyhost top`: a dashboard in the terminal, from the event stream of the admin API. */
import { deferred } from '../core/deferred.ts'
import { asError } from '../core/errors.ts'
import { sleep, wallClock } from '../core/time.ts'
import type { ClusterRow } from '../gateway/admin/cluster-rows.ts'
import { AdminClient, type AdminFlags, clusterPath } from './admin-client.ts'
import { EXIT } from './exit.ts'
import { abortOnInterrupt, type Interruption } from './interrupt.ts'
import { readEvents } from './sse.ts'
import { createPaint, write } from './terminal.ts'
import { openScreen } from './top/screen.ts'
import {
  applySnapshot,
  createTopState,
  moveSelection,
  type TopSnapshot,
  type TopState,
} from './top/state.ts'
import { formatPlainRows, renderTop } from './top/view.ts'

/** The pause before the next attempt to reach the admin address. */
const RETRY_INTERVAL_MS = 1_000

export async function run(
  _args: readonly (string | undefined)[],
  options: AdminFlags,
): Promise<number> {
  const admin = new AdminClient(options)
  const interruption = abortOnInterrupt()
  interruption.signal.addEventListener('abort', () => void admin.close())
  const state = createTopState()
  try {
    return process.stdout.isTTY
      ? await runInteractive(admin, state, interruption, options.admin)
      : await runPiped(admin, state, interruption)
  } finally {
    await admin.close()
  }
}

async function runPiped(
  admin: AdminClient,
  state: TopState,
  { signal, code }: Interruption,
): Promise<number> {
  await followEvents(admin, state, signal, async (isWhole) => {
    if (!isWhole) await write(formatPlainRows(state, new Date(wallClock()).toISOString()))
  })
  return code()
}

async function runInteractive(
  admin: AdminClient,
  state: TopState,
  { signal, code }: Interruption,
  name: string,
): Promise<number> {
  const paint = createPaint()
  const exitCode = deferred<number>()
  const draw = (): void =>
    screen.draw(renderTop(state, { name, columns: screen.columns, rows: screen.rows }, paint))
  const screen = openScreen((key) => {
    if (key === 'q') exitCode.resolve(EXIT.ok.number)
    else if (key === 'ctrl-c') exitCode.resolve(EXIT.interrupted.number)
    else if (key === 'up' || key === 'k') moveSelection(state, -1)
    else if (key === 'down' || key === 'j') moveSelection(state, 1)
    else if (key === '+' || key === '=') void changeSize(admin, state, 1).then(draw)
    else if (key === '-') void changeSize(admin, state, -1).then(draw)
    draw()
  }, draw)
  signal.addEventListener('abort', () => exitCode.resolve(code()))
  const following = followEvents(admin, state, signal, async () => draw())
  try {
    return await Promise.race([exitCode.promise, following.then(() => exitCode.promise)])
  } finally {
    screen.close()
  }
}

/** Reads the event stream, and connects again when it ends. Only the first attempt to connect can fail with an error. */
async function followEvents(
  admin: AdminClient,
  state: TopState,
  signal: AbortSignal,
  onChange: (isWhole: boolean) => Promise<void>,
): Promise<void> {
  let hasConnected = false
  while (!signal.aborted) {
    try {
      const { body } = await admin.requestOk('/api/events', { isStreaming: true })
      hasConnected = true
      state.connectionProblem = undefined
      for await (const { name, data } of readEvents(body)) {
        if (name !== 'snapshot') continue
        const snapshot = JSON.parse(data) as TopSnapshot
        applySnapshot(state, snapshot)
        await onChange(snapshot.whole === true)
      }
      state.connectionProblem = 'disconnected'
    } catch (error) {
      if (signal.aborted) return
      if (!hasConnected) throw error
      state.connectionProblem = `disconnected: ${asError(error).message}`
    }
    await onChange(true)
    await sleep(RETRY_INTERVAL_MS, signal).catch(() => {})
  }
}

async function changeSize(admin: AdminClient, state: TopState, by: number): Promise<void> {
  const row = state.rows.get(state.selectedUrl ?? '')
  if (!row) return
  const size = Math.max(0, row.size + by)
  try {
    const call = { method: 'PUT', json: { size } } as const
    const after = await admin.requestJson<Pick<ClusterRow, 'size'>>(
      clusterPath(row.name, '/size'),
      call,
    )
    state.rows.set(row.url, { ...row, size: after.size })
    state.message = `${row.name}: size ${after.size}`
  } catch (error) {
    state.message = asError(error).message
  }
}
