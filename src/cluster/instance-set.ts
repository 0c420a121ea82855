/** The instances of one service, from their making until nothing of them is left. What is wanted, the cluster knows. */

import type { InstanceState } from '../core/events.ts'
import type { Target } from '../dispatch/target.ts'
import { Instance } from './instance.ts'
import { isLive, isUp } from './lifecycle.ts'
import type { ProviderCalls } from './provider-calls.ts'
import type { ReconcilePlan } from './reconcile.ts'
import type { ClusterSettings } from './settings.ts'

export interface InstanceSetEvents {
  /** An instance was made (`from` is undefined then), or came into another state. */
  onState(instance: Instance, from: InstanceState | undefined, reason: string): void
  /** The places of an instance changed. */
  onSlots(): void
  /** Nothing of an ended instance is left. */
  onGone(): void
}

export class InstanceSet {
  readonly #settings: ClusterSettings
  readonly #providerCalls: ProviderCalls
  readonly #newId: () => string
  readonly #events: InstanceSetEvents
  readonly #instances = new Map<string, Instance>()
  /** Failed ones of which something may still run. */
  readonly #endingInstances = new Set<Instance>()
  #isEnding = false

  constructor(
    settings: ClusterSettings,
    calls: ProviderCalls,
    newId: () => string,
    events: InstanceSetEvents,
  ) {
    this.#settings = settings
    this.#providerCalls = calls
    this.#newId = newId
    this.#events = events
  }

  /** Those that are not at their end yet, oldest first. */
  get all(): readonly Instance[] {
    return [...this.#instances.values()]
  }

  /** How many take up room: those that live, drain, or are being cleared away. */
  get heldCount(): number {
    return this.#instances.size + this.#endingInstances.size
  }

  /** How many serve, or may come to. */
  get liveCount(): number {
    let live = 0
    for (const { state } of this.#instances.values()) if (isLive(state)) live++
    return live
  }

  /** Whether one of them has come up and is no goner yet. */
  get isUp(): boolean {
    return this.all.some(({ state }) => isUp(state))
  }

  /** Whether one that came up after `since`, on the clock of `now()`, has proved to be of use. */
  hasProvenSince(since: number): boolean {
    return this.all.some((instance) => instance.readyAt > since && instance.isProven)
  }

  /** By its id, which is its target's as well. */
  get(id: string): Instance | undefined {
    return this.#instances.get(id)
  }

  /** What takes requests now. */
  targets(): Target[] {
    const targets: Target[] = []
    for (const { target, state } of this.#instances.values()) {
      if (target && state === 'ready') targets.push(target)
    }
    return targets
  }

  /** `2 ready, 1 starting` */
  toString(): string {
    const states = new Map<InstanceState, number>()
    for (const { state } of this.#instances.values())
      states.set(state, (states.get(state) ?? 0) + 1)
    return [...states].map(([state, count]) => `${count} ${state}`).join(', ') || 'no instance'
  }

  applyPlan(plan: ReconcilePlan): void {
    // Each step tells of itself, and a listener may end all of them: nothing more is started then.
    for (const id of plan.cancel) this.#instances.get(id)?.drain('not wanted any more')
    for (const id of plan.drain) this.#instances.get(id)?.drain('scaled down')
    for (const id of plan.start) void this.#instances.get(id)?.start()
    for (let made = 0; made < plan.create && !this.#isEnding; made++) {
      const instance = this.#createInstance()
      if (made < plan.startable) void instance.start()
    }
  }

  #createInstance(): Instance {
    const instance = new Instance(this.#newId(), this.#settings, this.#providerCalls, {
      onState: (from, reason) => this.#onState(instance, from, reason),
      onSlots: () => this.#events.onSlots(),
    })
    this.#instances.set(instance.id, instance)
    this.#events.onState(instance, undefined, '')
    return instance
  }

  #onState(instance: Instance, from: InstanceState, reason: string): void {
    if (instance.state === 'failed' || instance.state === 'stopped') {
      this.#instances.delete(instance.id)
      this.#endingInstances.add(instance)
      void instance.gone.then(() => {
        this.#endingInstances.delete(instance)
        this.#events.onGone()
      })
    }
    this.#events.onState(instance, from, reason)
  }

  /** Takes away from every instance what it serves. */
  interrupt(error: Error): void {
    for (const { target } of this.#instances.values()) {
      if (!target) continue
      target.open = false
      target.interrupt(error)
    }
  }

  /** Makes no more, and stops all, politely where they have nothing to serve; resolves when nothing is left. */
  async end(reason: string, force: boolean): Promise<void> {
    this.#isEnding = true
    for (const instance of this.all) {
      if (force || instance.inFlight > 0) void instance.kill(reason)
      else instance.drain(reason)
    }
    await Promise.all(
      [...this.#instances.values(), ...this.#endingInstances].map(({ gone }) => gone),
    )
  }
}
