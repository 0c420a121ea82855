import { runInNewContext } from 'node:vm'
import { describe, expect, it } from 'vitest'
import { type SizedCluster, type SizeSpec, toSize, wholeSize } from '../../src/sizing/size.ts'
import { bounds, idleToZero, scaleDownDelay, step } from '../../src/sizing/wrappers.ts'
import fc from '../properties.ts'
import { FakeCluster } from './fake-cluster.ts'

const cluster = new FakeCluster()
class Half {
  valueOf(): number {
    return 0.5
  }
}
const read = (given: unknown) => toSize(given as SizeSpec, cluster).read()

describe('a size that is a number', () => {
  it('is whole, and a bigint is a number', () => {
    expect(read(7)).toBe(7)
    expect(read(0)).toBe(0)
    expect(read(3n)).toBe(3)
    expect(read(-0)).toBe(0)
  })

  it('is truncated where a function, a class or an object computes it', () => {
    expect(read(() => 2.7)).toBe(2.7)
    expect([() => 2.7, { valueOf: () => 2.7 }, Half].map((size) => wholeSize(read(size)))).toEqual([
      2, 2, 0,
    ])
  })

  it('is refused with a fraction by all wrappers, too', () => {
    const wraps: ((size: SizeSpec) => unknown)[] = [
      (size) => bounds(size, {}),
      (size) => scaleDownDelay(size, 1),
      (size) => step(size, {}),
      (size) => idleToZero(size),
    ]
    for (const wrap of wraps) {
      expect(catching(() => wrap(2.5))).toMatchObject({ code: 'MANYHOST_INVALID_SIZE' })
    }
  })

  const bad: [string, unknown][] = [
    ['-1', -1],
    ['-0.5', -0.5],
    ['2.5', 2.5],
    ['0.1', 0.1],
    ['1.0000000000000002', 1 + Number.EPSILON],
    ['NaN', Number.NaN],
    ['Infinity', Number.POSITIVE_INFINITY],
    ['-1n', -1n],
    ['0000...', 10n ** 400n],
    ['"7"', '7'],
    ['true', true],
    ['null', null],
    ['undefined', undefined],
    ['Symbol(x)', Symbol('x')],
    ['{}', {}],
    ['{"size":3}', { size: 3 }],
    ['[3]', [3]],
    ['a Date', new Date(0)],
    ['a String', new String('3')],
    ['a Map', new Map()],
    ['a Promise', Promise.resolve(3)],
    ['a function', function* three() {}],
    ['{}', Object.create(null)],
    ['{"valueOf":3}', { valueOf: 3 }],
    ['{}', runInNewContext('({})')],
  ]
  it.each(bad)('refuses %s at once', (got, given) => {
    const thrown = catching(() => toSize(given as SizeSpec, cluster))
    expect(thrown).toMatchObject({ code: 'MANYHOST_INVALID_SIZE', status: 400 })
    expect(thrown.message).toContain(got)
    expect(thrown.message).toContain('a whole number from 0 up')
  })
})

describe('a size that is a function', () => {
  it('is asked at every read, with the cluster', () => {
    const sized = new FakeCluster()
    const size = toSize((c: SizedCluster) => (c.requestQueue.size > 7 ? 2 : 1), sized)
    expect(size.read()).toBe(1)
    sized.queued = 8
    expect(size.read()).toBe(2)
  })

  it('may be async, and may answer a thenable or a bigint', async () => {
    await expect(read(async () => 4)).resolves.toBe(4)
    await expect(read(async () => 4n)).resolves.toBe(4)
    // biome-ignore lint/suspicious/noThenProperty: a promise that is not ours is what is tested
    await expect(read(() => ({ then: (yes: (n: number) => void) => yes(5) }))).resolves.toBe(5)
  })

  it('keeps the object that it returns, and reads that from then on', () => {
    let made = 0
    const size = toSize(() => new Counter(++made), cluster)
    expect([size.read(), size.read(), size.read()]).toEqual([1, 2, 3])
    expect(made).toBe(1)
  })

  it('keeps the object that it resolves with', async () => {
    let made = 0
    const size = toSize(async () => new Counter(++made), cluster)
    expect(await size.read()).toBe(1)
    expect(await size.read()).toBe(2)
    expect(made).toBe(1)
  })

  it('that is a method named class is no class', () => {
    const own = { class: () => 3, method: { class() {} }.class }
    expect(read(own.class)).toBe(3)
    expect(() => read(own.method)).toThrow(/got undefined/)
  })

  it.each([
    ['"3"', () => '3'],
    ['NaN', () => Number.NaN],
    ['Infinity', () => Number.POSITIVE_INFINITY],
    ['undefined', () => undefined],
    ['{"size":3}', () => ({ size: 3 })],
    ['a function', () => Counter],
  ])('fails to be read when it gives %s', (got, given) => {
    expect(catching(() => read(given))).toMatchObject({
      code: 'MANYHOST_SIZE_FAILED',
      message: `a size must be a finite number, got ${got}`,
    })
  })

  it('that rejects or resolves with no number rejects', async () => {
    await expect(read(async () => 'x')).rejects.toMatchObject({ code: 'MANYHOST_SIZE_FAILED' })
    await expect(read(() => Promise.reject(new Error('no')))).rejects.toThrow('no')
  })
})

describe('a size that is a class', () => {
  it('is constructed once, with the cluster, and then read', () => {
    let made = 0
    class Balancer {
      readonly #cluster: SizedCluster
      constructor(given: SizedCluster) {
        made++
        this.#cluster = given
      }
      valueOf(): number {
        return this.#cluster.requestQueue.isEmpty ? 0 : 1
      }
    }
    const sized = new FakeCluster()
    const size = toSize(Balancer, sized)
    expect(made).toBe(1)
    expect(size.read()).toBe(0)
    sized.queued = 1
    expect(size.read()).toBe(1)
    expect(made).toBe(1)
  })

  it('may be an older one, or derived from one', () => {
    function Old(this: { n: number }) {
      this.n = 4
    }
    Old.prototype.valueOf = function () {
      return this.n
    }
    function Derived(this: { n: number }) {
      this.n = 5
    }
    Derived.prototype = Object.create(Old.prototype)
    expect(read(Old)).toBe(4)
    expect(read(Derived)).toBe(5)
    expect(read(class extends Counter {})).toBe(1)
  })

  it('whose constructor throws, throws at once and keeps the cause', () => {
    const cause = new Error('no licence')
    class Broken {
      constructor() {
        throw cause
      }
      valueOf() {
        return 1
      }
    }
    const thrown = catching(() => toSize(Broken, cluster))
    expect(thrown).toMatchObject({ code: 'MANYHOST_SIZE_FAILED', cause, service: 'http://calc' })
    expect(thrown.message).toContain('Broken')
    expect(thrown.message).toContain('no licence')
  })

  it('whose instances cannot be read as a number is refused at once', () => {
    expect(catching(() => read(class Blind {}))).toMatchObject({
      code: 'MANYHOST_INVALID_SIZE',
      message: expect.stringContaining('Blind'),
    })
  })
})

describe('a size that is an object', () => {
  it('is read by valueOf at each read', () => {
    expect(read({ valueOf: () => 3 })).toBe(3)
    expect(read(new Number(3))).toBe(3)
    expect(read(Object.assign(Object.create(null), { valueOf: () => 3 }))).toBe(3)
    expect(read(runInNewContext('({ valueOf: () => 6 })'))).toBe(6)
    const size = toSize(new Counter(5), cluster)
    expect([size.read(), size.read()]).toEqual([5, 6])
  })

  it('is read by Symbol.toPrimitive with the hint number before valueOf', () => {
    const given = { [Symbol.toPrimitive]: (hint: string) => (hint === 'number' ? 8 : -1) }
    expect(read({ ...given, valueOf: () => 1 })).toBe(8)
  })

  it('may be async', async () => {
    await expect(read({ valueOf: async () => 3 })).resolves.toBe(3)
    await expect(read({ [Symbol.toPrimitive]: async () => 4 })).resolves.toBe(4)
  })

  it('fails to be read when it gives no number', () => {
    const got = catching(() => read({ valueOf: () => 'three' }))
    expect(got.message).toContain('got "three"')
  })
})

describe('wholeSize', () => {
  it('is a whole number from 0 up for every finite number', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
        const size = wholeSize(value)
        expect(Number.isInteger(size)).toBe(true)
        expect(Object.is(size, Math.max(0, Math.trunc(value)))).toBe(true)
      }),
    )
  })

  it.each(
    [Number.NaN, Number.POSITIVE_INFINITY, '1', undefined, null, true, [3], {}].map((value) => [
      value,
    ]),
  )('throws for %o', (value: unknown) =>
    expect(() => wholeSize(value)).toThrow(/must be a finite number/),
  )
})

class Counter {
  #n: number
  constructor(first: unknown) {
    this.#n = typeof first === 'number' ? first : 1
  }
  valueOf(): number {
    return this.#n++
  }
}

function catching(act: () => unknown): Error {
  try {
    act()
  } catch (error) {
    return error as Error
  }
  throw new Error('nothing was thrown')
}
