/** The instances of one service, from their creation until nothing of them is left. */

import type { InstanceState } from '../core/events.ts'
import type { Target } from '../dispatch/target.ts'
import { Instance } from './instance.ts'
import { isLive, isUp } from './lifecycle.ts'
import type { ProviderCalls } from './provider-calls.ts'
import type { ReconcilePlan } from './reconcile.ts'
import type { ClusterSettings } from './settings.ts'

export interface InstanceSetEvents {
  /** An instance was created (then `from` is undefined), or has changed its state. */
  onState(instance: Instance, from: InstanceState | undefined, reason: string): void
  /** The slots of an instance have changed. */
  onSlots(): void
  /** An instance has ended, and nothing of it is left. */
  onGone(): void
}

export class InstanceSet {
  readonly #settings: ClusterSettings
  readonly #providerCalls: ProviderCalls
  readonly #newId: () => string
  readonly #events: InstanceSetEvents
  readonly #instances = new Map<string, Instance>()
  /** Instances that have failed or stopped, and of which something may still run. */
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

  /** Instances that have neither stopped nor failed, oldest first. */
  get all(): readonly Instance[] {
    return [...this.#instances.values()]
  }

  /** Instances that count against limits: those that live, drain, or have ended but are not gone yet. */
  get heldCount(): number {
    return this.#instances.size + this.#endingInstances.size
  }

  /** Instances that serve requests, or may do so later. */
  get liveCount(): number {
    let live = 0
    for (const { state } of this.#instances.values()) if (isLive(state)) live++
    return live
  }

  /** Whether an instance is up: it has been ready, and is not about to end. */
  get isUp(): boolean {
    return this.all.some(({ state }) => isUp(state))
  }

  /** Whether an instance that became ready after `since`, on the clock of `now()`, has started well. */
  hasProvenSince(since: number): boolean {
    return this.all.some((instance) => instance.readyAt > since && instance.isProven)
  }

  /** An instance by its id, which is the id of its target as well. */
  get(id: string): Instance | undefined {
    return this.#instances.get(id)
  }

  /** The targets of instances that take requests now. */
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
    // Each step emits events, and a listener may close the cluster. Then nothing more is started.
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

  /** Takes the requests away from every instance. */
  interrupt(error: Error): void {
    for (const { target } of this.#instances.values()) {
      if (!target) continue
      target.open = false
      target.interrupt(error)
    }
  }

  /** Creates no more instances and stops all: by force if they still serve requests. Resolves when nothing is left. */
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
