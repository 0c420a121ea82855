/** `manyhost top`: the terminal's dashboard, over the event stream. */
import { asError } from '../core/errors.ts'
import { sleep, wallClock } from '../core/time.ts'
import { Admin, type AdminOptions, clusterPath } from './admin.ts'
import { EXIT } from './exit.ts'
import { type Interruption, untilInterrupted } from './interrupt.ts'
import { events } from './sse.ts'
import { paintFor, write } from './terminal.ts'
import { openScreen } from './top/screen.ts'
import { emptyState, move, type Row, type Snapshot, type TopState, take } from './top/state.ts'
import { plain, view } from './top/view.ts'

/** Between two tries to reach the admin address again, in ms. */
const RETRY = 1_000

export async function run(
  _args: readonly (string | undefined)[],
  options: AdminOptions,
): Promise<number> {
  const admin = new Admin(options)
  const interruption = untilInterrupted()
  interruption.signal.addEventListener('abort', () => void admin.close())
  const state = emptyState()
  try {
    return process.stdout.isTTY
      ? await interactive(admin, state, interruption, options.admin)
      : await piped(admin, state, interruption)
  } finally {
    await admin.close()
  }
}

async function piped(
  admin: Admin,
  state: TopState,
  { signal, code }: Interruption,
): Promise<number> {
  await follow(admin, state, signal, async (isWhole) => {
    if (!isWhole) await write(plain(state, new Date(wallClock()).toISOString()))
  })
  return code()
}

async function interactive(
  admin: Admin,
  state: TopState,
  { signal, code }: Interruption,
  name: string,
): Promise<number> {
  const paint = paintFor()
  let quit: ((exit: number) => void) | undefined
  const ended = new Promise<number>((resolve) => {
    quit = resolve
  })
  const draw = (): void =>
    screen.draw(view(state, { name, columns: screen.columns, rows: screen.rows }, paint))
  const screen = openScreen((key) => {
    if (key === 'q') quit?.(EXIT.ok.number)
    else if (key === 'ctrl-c') quit?.(EXIT.interrupted.number)
    else if (key === 'up' || key === 'k') move(state, -1)
    else if (key === 'down' || key === 'j') move(state, 1)
    else if (key === '+' || key === '=') void resize(admin, state, 1).then(draw)
    else if (key === '-') void resize(admin, state, -1).then(draw)
    draw()
  }, draw)
  signal.addEventListener('abort', () => quit?.(code()))
  const following = follow(admin, state, signal, async () => draw())
  try {
    return await Promise.race([ended, following.then(() => ended)])
  } finally {
    screen.close()
  }
}

/** Takes the event stream in, and tries again when it ends; what cannot be reached at first is an error. */
async function follow(
  admin: Admin,
  state: TopState,
  signal: AbortSignal,
  onChange: (isWhole: boolean) => Promise<void>,
): Promise<void> {
  let wasThere = false
  while (!signal.aborted) {
    try {
      const { body } = await admin.ask('/api/events', { streams: true })
      wasThere = true
      state.trouble = undefined
      for await (const { name, data } of events(body)) {
        if (name !== 'snapshot') continue
        const snapshot = JSON.parse(data) as Snapshot
        take(state, snapshot)
        await onChange(snapshot.whole === true)
      }
      state.trouble = 'disconnected'
    } catch (error) {
      if (signal.aborted) return
      if (!wasThere) throw error
      state.trouble = `disconnected: ${asError(error).message}`
    }
    await onChange(true)
    await sleep(RETRY, signal).catch(() => {})
  }
}

async function resize(admin: Admin, state: TopState, by: number): Promise<void> {
  const row = state.rows.get(state.chosen ?? '')
  if (!row) return
  const size = Math.max(0, row.size + by)
  try {
    const call = { method: 'PUT', json: { size } } as const
    const after = await admin.json<Pick<Row, 'size'>>(clusterPath(row.name, '/size'), call)
    state.rows.set(row.url, { ...row, size: after.size })
    state.said = `${row.name}: size ${after.size}`
  } catch (error) {
    state.said = asError(error).message
  }
}
