/**
 * What a node rents out, played by local processes: the exe unit with its states, one command at a time ("Busy"
 * otherwise), and transfers to and from its one volume.
 */
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { now, sleep } from '../../../src/core/time.ts'
import { pidsWith } from '../../providers/process-help.ts'
import { stamp } from './feed.ts'
import type { Transfers } from './transfers.ts'

interface Result {
  readonly index: number
  readonly eventDate: string
  readonly result: 'Ok' | 'Error'
  readonly stdout: string
  readonly stderr: string
  readonly message?: string
  readonly isBatchFinished: boolean
}

type State = 'Initialized' | 'Deployed' | 'Ready' | 'Terminated'

interface Outcome {
  readonly stdout?: string
  readonly stderr?: string
  readonly message?: string
}

export interface Behaviour {
  readonly volume: string
  /** Its images cannot be deployed. */
  readonly failsToDeploy: boolean
}

export class Machine {
  readonly id = randomUUID()
  readonly agreement: string
  state: State = 'Initialized'
  /** What deploy was told of the network. */
  address: string | undefined
  readonly #transfers: Transfers
  readonly #behaviour: Behaviour
  readonly #batches = new Map<string, Result[]>()
  #isBusy = false
  /** Where its instance keeps things: on a disk of its own they would go with it. */
  #litter: string | undefined

  constructor(agreement: string, transfers: Transfers, behaviour: Behaviour) {
    this.agreement = agreement
    this.#transfers = transfers
    this.#behaviour = behaviour
  }

  /** Answers with the name of the batch; it runs behind. */
  execute(script: string): string {
    const commands = JSON.parse(script) as Record<string, object>[]
    const batch = randomUUID()
    const results: Result[] = []
    this.#batches.set(batch, results)
    void this.#runAll(commands, results)
    return batch
  }

  async results(batch: string, seconds: number): Promise<Result[] | undefined> {
    const results = this.#batches.get(batch)
    if (!results) return undefined
    const deadline = now() + seconds * 1_000
    const isOver = (): boolean => results.at(-1)?.isBatchFinished === true
    while (!isOver() && this.state !== 'Terminated' && now() < deadline) await sleep(2)
    return this.state === 'Terminated' && !isOver() ? undefined : results
  }

  async #runAll(commands: readonly Record<string, object>[], results: Result[]): Promise<void> {
    for (const [index, command] of commands.entries()) {
      const [verb = '', args = {}] = Object.entries(command)[0] as unknown as [string, object]
      const { stdout = '', stderr = '', message } = await this.#one(verb, args)
      const isFailed = message !== undefined
      results.push({
        index,
        eventDate: stamp(),
        result: isFailed ? 'Error' : 'Ok',
        stdout,
        stderr,
        ...(isFailed && { message }),
        isBatchFinished: isFailed || index === commands.length - 1,
      })
      if (isFailed) return
    }
  }

  async #one(verb: string, args: object): Promise<Outcome> {
    if (this.#isBusy) return { message: `Busy: ${this.state}` }
    this.#isBusy = true
    try {
      if (verb === 'deploy') return this.#deploy(args)
      if (verb === 'start') return this.#enter('Deployed', 'Ready')
      if (this.state !== 'Ready') return { message: `Invalid state: ${this.state}` }
      if (verb === 'run') return await this.#run(args as Run)
      if (verb === 'transfer') return await this.#transfer(args as Transfer)
      return { message: `no such command: ${verb}` }
    } finally {
      this.#isBusy = false
    }
  }

  #deploy(args: { net?: { nodeIp: string }[] }): Outcome {
    if (this.#behaviour.failsToDeploy) return { message: 'the image cannot be unpacked' }
    this.address = args.net?.[0]?.nodeIp
    return this.#enter('Initialized', 'Deployed')
  }

  #enter(from: State, to: State): Outcome {
    if (this.state !== from) return { message: `Invalid state: ${this.state}` }
    this.state = to
    return {}
  }

  #run({ entry_point: entry, args }: Run): Promise<Outcome> {
    this.#litter ??= /\/tmp\/\.manyhost\/[\w.-]+/.exec(args.join(' '))?.[0]
    return new Promise((resolve) => {
      // A machine of its own has nothing of our environment.
      const env = { PATH: process.env.PATH, HOME: '/', FAKE_MACHINE: this.id }
      const child = spawn(entry, args, { env, cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] })
      let [stdout, stderr] = ['', '']
      child.stdout.setEncoding('utf8').on('data', (text) => {
        stdout += text
      })
      child.stderr.setEncoding('utf8').on('data', (text) => {
        stderr += text
      })
      child.once('error', ({ message }) => resolve({ message }))
      child.once('close', (code) =>
        resolve({
          stdout,
          stderr,
          ...(code !== 0 && { message: `Command exited with code ${code}` }),
        }),
      )
    })
  }

  async #transfer({ from, to }: Transfer): Promise<Outcome> {
    try {
      if (to.startsWith('container:')) {
        writeFileSync(this.#inVolume(to), await this.#transfers.fetch(from))
      } else {
        await this.#transfers.send(to, readFileSync(this.#inVolume(from)))
      }
      return {}
    } catch (error) {
      return { message: String(error) }
    }
  }

  #inVolume(url: string): string {
    const path = url.slice('container:'.length)
    if (path.startsWith(`${this.#behaviour.volume}/`)) return path
    throw new Error(`${path} is in no volume`)
  }

  /** Ends all that runs in it, whatever it has become. */
  end(): void {
    this.state = 'Terminated'
    for (let pass = 0; pass < 20; pass++) {
      const pids = pidsWith(`FAKE_MACHINE=${this.id}`)
      if (pids.length === 0) break
      for (const pid of pids) {
        try {
          process.kill(pid, 'SIGKILL')
        } catch {
          // It went by itself.
        }
      }
    }
    if (this.#litter) rmSync(this.#litter, { recursive: true, force: true })
  }
}

interface Run {
  readonly entry_point: string
  readonly args: readonly string[]
}

interface Transfer {
  readonly from: string
  readonly to: string
}
