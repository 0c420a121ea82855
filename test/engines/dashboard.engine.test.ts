/** The dashboard in a real Chromium: live, steered by mouse and keyboard, through failures, with a big fleet. */
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import axe from 'axe-core'
import { type Browser, chromium, type Locator, type Page } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { faults } from '../../providers/testing/index.ts'
import { sleep, until } from '../../src/core/time.ts'
import type { AdminHandlerOptions } from '../../src/gateway/admin/handler.ts'
import {
  type AdminFixture,
  type Json,
  openAdminFixture,
  waitUntilReady,
} from '../gateway/admin-fixture.ts'
import { countStates } from '../help.ts'
import { OUTPUT, withEngine } from './engine.ts'

/** The page's own globals, for the functions that run there. */
declare const document: Json
declare const window: Json
declare const localStorage: Json
declare const getComputedStyle: Json

const CHROMIUM = '/usr/bin/chromium'

withEngine(CHROMIUM, 'dashboard', () => {
  let browser: Browser
  let page: Page
  let served: AdminFixture
  /** What the browser complained of, and what it asked of others. */
  let complaints: string[]
  const loads: AbortController[] = []

  beforeAll(async () => {
    mkdirSync(OUTPUT, { recursive: true })
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox'] })
  })
  afterAll(() => browser.close())

  beforeEach(async () => {
    complaints = []
    page = await browser.newPage({ viewport: { width: 1500, height: 900 } })
    page.setDefaultTimeout(60_000)
    page.on('pageerror', (error) => complaints.push(error.message))
    page.on('console', (message) => {
      const isExpected = /ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY|status of 40[01]/.test(
        message.text(),
      )
      if (message.type() === 'error' && !isExpected) complaints.push(message.text())
    })
    page.on('request', (request) => {
      if (new URL(request.url()).host !== `127.0.0.1:${served.port}`) complaints.push(request.url())
    })
  })
  afterEach(async () => {
    for (const load of loads.splice(0)) load.abort()
    await page.close()
    await served[Symbol.asyncDispose]()
    expect(complaints).toEqual([])
  })

  async function open(options: Partial<AdminHandlerOptions> = {}): Promise<void> {
    served = await openAdminFixture({ version: '0.1.0', ...options }, async (_req, res) => {
      await sleep(5 + Math.random() * 30)
      res.end('ok')
    })
    served.session.startup({ url: 'http://calc', initSize: 3, concurrency: 2 })
    served.session.startup({ url: 'http://search', initSize: 2, concurrency: 8 })
    served.session.startup({ url: 'http://reports', initSize: 0 })
    await waitUntilReady(served.session, 'http://calc', 3)
    await page.goto(served.url)
  }

  /** So many callers, one request after the other, until the test ends. */
  function load(url: string, callers: number): void {
    const over = new AbortController()
    loads.push(over)
    const client = served.session.client()
    for (let i = 0; i < callers; i++) {
      void (async () => {
        while (!over.signal.aborted) {
          await client
            .get(url)
            .then((response) => response.text())
            .catch(() => sleep(20))
        }
      })()
    }
  }

  const row = (name: string): Locator =>
    page.locator('tbody.cluster').filter({ has: page.getByRole('button', { name, exact: true }) })
  const sees = (where: Locator, pattern: RegExp): Promise<void> =>
    where.filter({ hasText: pattern }).first().waitFor()

  /**
   * Tasks of the page above 50 ms, in milliseconds of the processor: what the page itself costs, however busy the
   * machine is with 10,000 instances and other tests.
   */
  async function work(act: () => Promise<unknown>): Promise<number[]> {
    await browser.startTracing(page, { categories: ['toplevel'] })
    await act()
    const { traceEvents } = JSON.parse(String(await browser.stopTracing())) as Json
    const pages = traceEvents.filter(
      ({ name, args }: Json) => name === 'thread_name' && args.name === 'CrRendererMain',
    )
    const ids = new Set(pages.map(({ pid, tid }: Json) => `${pid}/${tid}`))
    return traceEvents
      .filter(({ ph, pid, tid }: Json) => ph === 'X' && ids.has(`${pid}/${tid}`))
      .map(({ tdur = 0 }: Json) => Math.round(tdur / 1_000))
      .filter((ms: number) => ms > 50)
  }

  /**
   * The longest task of showing a plain table of ten cells a row, now: what this browser on this machine is measured
   * by. 800 rows took 217 ms of the processor on a busy machine with two cores, 250 rows 65 ms.
   */
  async function plainTable(rows: number): Promise<number> {
    const tasks = await work(() =>
      page.evaluate((count) => {
        const table = document.createElement('table')
        for (let row = 0; row < count; row++) {
          const cells = table.insertRow()
          for (let cell = 0; cell < 10; cell++) cells.insertCell().textContent = 'ready'
        }
        document.body.append(table)
        table.getBoundingClientRect()
        table.remove()
      }, rows),
    )
    return Math.max(50, ...tasks)
  }

  test('loads, is live, and shows what there is', async () => {
    await open()
    await sees(page.locator('#connection'), /Live/)
    await sees(row('calc'), /3 \/ 3 ready/)
    await sees(row('reports'), /at zero/)
    load('http://calc/', 6)
    await sees(row('calc').locator('.value.rate'), /^[1-9]/)
    await sees(row('calc').locator('.p50'), /ms/)
    const line = await row('calc').locator('.spark.rate .line').elementHandle()
    for (let second = 0; second < 3; second++) {
      const before = await line?.getAttribute('d')
      await page.waitForFunction(([path, old]) => path.getAttribute('d') !== old, [
        line as Json,
        before,
      ] as const)
    }
  })

  test('changes a size by buttons and by hand, and asks before it is zero', async () => {
    await open()
    await page.getByRole('button', { name: 'Increase the size of calc by one' }).click()
    await sees(row('calc'), /4 \/ 4 ready/)
    const size = page.getByLabel('Size wanted for calc', { exact: true })
    await size.fill('2')
    await page.getByRole('button', { name: 'Set the size of calc' }).click()
    await sees(row('calc'), /2 \/ 2 ready/)
    expect(served.session.cluster('http://calc').size).toBe(2)
    await size.fill('0')
    await size.press('Enter')
    await page.getByRole('button', { name: 'Cancel' }).click()
    expect(served.session.cluster('http://calc').size).toBe(2)
    await size.press('Enter')
    await page.getByRole('button', { name: 'Scale to zero' }).click()
    await sees(row('calc'), /at zero/)
    await size.fill('1.5')
    await size.press('Enter')
    await sees(page.locator('#toast'), /: failed\./)
  })

  test('shows a killed instance being replaced, and why it went', async () => {
    await open()
    await page.getByRole('button', { name: 'calc', exact: true }).click()
    const instances = row('calc').locator('table.instances tbody tr')
    await instances.nth(2).waitFor()
    const killed = served.provider.instances[0]
    const id = killed?.id as string
    expect(await instances.locator('th').allTextContents()).toContain(id)
    killed?.kill('killed by SIGKILL')
    await sees(row('calc').locator('.ended'), new RegExp(`${id} failed: killed by SIGKILL`))
    await page.waitForFunction((gone) => {
      const ids = [...document.querySelectorAll('table.instances tbody th')].map(
        (th) => th.textContent,
      )
      return ids.length === 3 && !ids.includes(gone)
    }, id)
    await sees(page.locator('#failures'), /instance failed[\s\S]*killed by SIGKILL/)
  })

  test('shows logs as they are written', async () => {
    await open()
    await page.getByRole('button', { name: 'Log of calc' }).click()
    const [instance] = served.session.cluster('http://calc').instances
    instance?.output.append('<b>hello</b> from the instance\n')
    await sees(page.locator('#log-text'), new RegExp(`${instance?.id} \\| <b>hello</b> from`))
    await page.keyboard.press('Escape')
    expect(await page.locator('#log').isHidden()).toBe(true)
  })

  test('says that it is disconnected, and comes back by itself', async () => {
    await open()
    await sees(page.locator('#connection'), /Live/)
    served.server.close()
    served.server.closeAllConnections()
    await sees(page.locator('#connection'), /Disconnected/)
    await sees(page.locator('#banner'), /The next attempt is in/)
    await page.screenshot({ path: `${OUTPUT}dashboard-disconnected.png` })
    served.session.setSize('http://calc', 5)
    served.server.listen(served.port, '127.0.0.1')
    await once(served.server, 'listening')
    await sees(page.locator('#connection'), /Live/)
    await sees(row('calc'), /5 \/ 5 ready/)
    expect(await page.locator('#banner').isHidden()).toBe(true)
  })

  test('asks for the token, keeps it for the tab, and says when it is wrong', async () => {
    await open({ token: 's3cret' })
    const token = page.getByLabel('Token', { exact: true })
    await token.fill('guess')
    await token.press('Enter')
    await sees(page.locator('#login'), /not accepted/)
    await token.fill('s3cret')
    await page.getByRole('button', { name: 'Log in' }).click()
    await sees(row('calc'), /3 \/ 3 ready/)
    await page.reload()
    await sees(row('calc'), /3 \/ 3 ready/)
    expect(await page.evaluate(() => [document.cookie, localStorage.length])).toEqual(['', 0])
  })

  test('is used with the keyboard alone', async () => {
    await open()
    await sees(row('calc'), /3 \/ 3 ready/)
    const focused = (): Promise<string> =>
      page.evaluate(() => {
        const at = document.activeElement
        return at?.getAttribute('aria-label') ?? at?.textContent?.trim() ?? ''
      })
    const tabTo = async (name: string): Promise<void> => {
      for (let i = 0; i < 60 && (await focused()) !== name; i++) await page.keyboard.press('Tab')
      expect(await focused()).toBe(name)
      const outline = await page.evaluate(() =>
        Number.parseFloat(getComputedStyle(document.activeElement).outlineWidth),
      )
      expect(outline, `focus on ${name} is seen`).toBeGreaterThanOrEqual(1)
    }
    await tabTo('Skip to the services')
    await page.keyboard.press('Enter')
    await tabTo('calc')
    await page.keyboard.press('Enter')
    await row('calc').locator('table.instances tbody tr').nth(2).waitFor()
    await tabTo('Size wanted for calc')
    await page.keyboard.press('Control+A')
    await page.keyboard.type('4')
    await page.keyboard.press('Enter')
    await sees(row('calc'), /4 \/ 4 ready/)
    expect(await focused()).toBe('Size wanted for calc')
    const [instance] = served.session.cluster('http://calc').instances
    await tabTo(`Drain ${instance?.id}`)
    await page.keyboard.press('Enter')
    await sees(page.locator('#confirm'), /Drain calc-/)
    await page.keyboard.press('Escape')
    expect(await focused()).toBe(`Drain ${instance?.id}`)
    await page.keyboard.press('Enter')
    await tabTo('Drain')
    await page.keyboard.press('Enter')
    await sees(row('calc').locator('.ended'), new RegExp(`${instance?.id} stopped`))
    await sees(row('calc'), /4 \/ 4 ready/)
    await tabTo('Restart calc')
  })

  test('takes whatever services say for text', async () => {
    await open()
    const evil = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
    const provider = {
      ...served.provider,
      start: () => Promise.reject(new Error(evil)),
    }
    served.session.startup({ url: 'http://evil', provider: provider as typeof served.provider })
    await sees(row('evil'), /<img src=x/)
    await sees(page.locator('#failures'), /<script>/)
    expect(await page.evaluate(() => 'hacked' in window)).toBe(false)
    expect(await page.locator('#failures img, #clusters img').count()).toBe(0)
  })

  test.each(['light', 'dark'] as const)(
    'is accessible and looks right in %s',
    async (colorScheme) => {
      await page.emulateMedia({ colorScheme })
      await open()
      const provider = faults(served.provider, { startFailure: { percentage: 100 } })
      served.session.startup({ url: 'http://billing', initSize: 2, provider })
      load('http://calc/', 8)
      load('http://search/', 6)
      await page.getByRole('button', { name: 'calc', exact: true }).click()
      await page.waitForTimeout(8_000)
      served.provider.instances[0]?.kill('killed by SIGKILL')
      await sees(row('calc').locator('.ended'), /killed/)
      await page.waitForTimeout(3_000)
      await page.evaluate(axe.source)
      const found = await page.evaluate(async () => {
        const { violations } = await (window.axe as typeof axe).run()
        return violations.map(
          ({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join('\n')}`,
        )
      })
      expect(found).toEqual([])
      await page.screenshot({ path: `${OUTPUT}dashboard-${colorScheme}.png` })
      await page.setViewportSize({ width: 420, height: 800 })
      await page.screenshot({ path: `${OUTPUT}dashboard-${colorScheme}-narrow.png` })
    },
  )

  test('holds 100 clusters of 100 instances without long tasks', { timeout: 900_000 }, async () => {
    // The instances share a process with the server that the page asks, on a machine with other things to do.
    page.setDefaultTimeout(300_000)
    await open()
    for (let i = 0; i < 100; i++) {
      served.session.startup({ url: `http://s${i}`, initSize: 100, maxStarting: 100 })
    }
    await until(() => countStates(served.session, 'http://s99').ready === 100)
    for (let i = 0; i < 20; i++) load(`http://s${i}/`, 2)
    const round = async () => {
      const loading = await work(async () => {
        await page.reload()
        await page.locator('tbody.cluster').nth(102).waitFor({ state: 'attached' })
        await page.waitForTimeout(5_000)
      })
      expect(await page.locator('tbody.cluster').count()).toBe(103)
      const before = { whole: await plainTable(800), quarter: await plainTable(250) }
      const idle = await work(() => page.waitForTimeout(5_000))
      const opened = await work(async () => {
        // Playwright's own search by role goes through the whole page, on the page's time.
        for (const [index, name] of ['s0', 's1', 's2'].entries()) {
          await page.evaluate((wanted) => {
            const names = [...document.querySelectorAll('.cluster .name')]
            names.find(({ textContent }: Json) => textContent === wanted).parentElement.click()
          }, name)
          const last = page.locator('table.instances tbody tr').nth(100 * index + 99)
          await last.waitFor({ state: 'attached' })
        }
        await page.waitForTimeout(2_000)
      })
      expect(await page.locator('table.instances tbody tr').count()).toBe(300)
      const scrolled = await work(async () => {
        await page.mouse.move(500, 500)
        for (let i = 0; i < 40; i++) {
          await page.mouse.wheel(0, 400)
          await page.waitForTimeout(50)
        }
      })
      const filtered = await work(async () => {
        await page.locator('#filter').fill('s9')
        await page.waitForTimeout(1_000)
      })
      await page.screenshot({ path: `${OUTPUT}dashboard-10000.png` })
      const whole = Math.max(before.whole, await plainTable(800))
      const quarter = Math.max(before.quarter, await plainTable(250))
      const found = { loading, idle, opened, scrolled, filtered, whole, quarter }
      console.log('long tasks, ms of the processor:', found)
      return {
        loading: loading.filter((ms) => ms > whole),
        idle: idle.slice(1),
        opened: opened.filter((ms) => ms > quarter),
        scrolled: scrolled.filter((ms) => ms > quarter),
        filtered: filtered.filter((ms) => ms > quarter),
      }
    }
    // What the page costs, it costs each time; what else the machine does makes now this and now that task long, in ms
    // of the processor as well. So of three rounds the least of each counts.
    const rounds: Awaited<ReturnType<typeof round>>[] = []
    const least = (name: keyof (typeof rounds)[number]): number =>
      Math.min(...rounds.map((one) => one[name].length))
    const sums = (): number[] =>
      (['loading', 'idle', 'opened', 'scrolled', 'filtered'] as const).map(least)
    do rounds.push(await round())
    while (rounds.length < 3 && sums().some((count) => count > 0))
    expect(sums()).toEqual([0, 0, 0, 0, 0])
  })
})
