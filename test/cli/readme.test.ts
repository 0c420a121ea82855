/** README's "From nothing to a served fleet" does what it says, typed as it stands there. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { createFolder, runManyhost, startProgram } from './help.ts'

const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8')

it('takes README from nothing to a served fleet', async () => {
  const [, screen = ''] =
    /^### From nothing to a served fleet$[\s\S]*?```console\n([\s\S]*?)```/m.exec(readme) ?? []
  expect(screen.split('\n').length).toBeLessThan(40)
  const cwd = createFolder()
  const files = [...screen.matchAll(/^\$ cat > (\S+) <<'END'\n([\s\S]*?)^END$/gm)]
  expect(files.map(([, name]) => name)).toEqual(['hello.js', 'fleet.yaml'])
  for (const [, name = '', text = ''] of files) {
    // Their ports may be somebody else's here.
    writeFileSync(join(cwd, name), text.replace(/(listen: 127\.0\.0\.1:)\d+/g, '$10'))
  }
  expect(screen).toContain('$ npx manyhost check && npx manyhost serve --watch\n')
  expect((await runManyhost(['check'], { cwd })).code).toBe(0)
  const served = startProgram(['serve', '--watch', '--log', 'pretty'], { cwd })
  const [, gateway = '', admin = ''] = await served.waitForOutput(
    /^ {2}gateway {4}(http:.*\/)hello\/\n {2}dashboard {2}(http:.*)\/\n {2}metrics {4}http:.*\/metrics$/m,
  )
  expect(await (await fetch(`${gateway}hello/`)).text()).toMatch(/^hello from hello-\w{8}-1\n$/)
  const sized = await runManyhost(['size', 'hello', '5', '--admin', admin], { cwd })
  expect(sized.code).toBe(0)
  served.process.kill('SIGINT')
  expect((await served.ended).code).toBe(0)
})
