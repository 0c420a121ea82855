/** Writes schema/fleet.schema.json from the rules: `npm run schema`. A test holds it against them. */
import { writeFileSync } from 'node:fs'
import { buildFleetSchema } from '../dist/src/config/schema.js'

const file = new URL('../schema/fleet.schema.json', import.meta.url)
writeFileSync(file, `${JSON.stringify(buildFleetSchema(), null, 2)}\n`)
