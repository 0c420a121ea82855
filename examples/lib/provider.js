// What `--provider NAME` of an example means, and `--options '{"network":"host"}'` for that provider. Without it
// instances are processes of this machine. The rest of the example is the same wherever it runs.
import { parseArgs } from 'node:util'

const PROVIDERS = {
  process: () => import('manyhost/providers/process').then((made) => made.processes),
  docker: () => import('manyhost/providers/docker').then((made) => made.docker),
  // Needs `--options '{"budget":1}' --image TAG`, a yagna daemon and its app key in YAGNA_APPKEY.
  golem: () => import('manyhost/providers/golem').then((made) => made.golem),
  podman: () => import('manyhost/providers/docker').then((made) => made.podman),
  kubernetes: () => import('manyhost/providers/kubernetes').then((made) => made.kubernetes),
  // Its cluster is that of SLURM_CONF, or of --options '{"conf":"/etc/slurm/slurm.conf"}'.
  slurm: () => import('manyhost/providers/slurm').then((made) => made.slurm),
}

const { values } = parseArgs({
  strict: false,
  options: {
    provider: { type: 'string', default: 'process' },
    options: { type: 'string', default: '{}' },
    image: { type: 'string', default: 'node:22-slim' },
  },
})

const find = PROVIDERS[values.provider]
if (!find) throw new Error(`--provider is one of ${Object.keys(PROVIDERS).join(', ')}`)

export const provider = (await find())(JSON.parse(values.options))

/** For providers that run images: one with Node and a shell. */
export const image = values.image
