/** The dashboard's files. They are read when asked for, and shipped as they are: there is nothing to build. */
import { readFile } from 'node:fs/promises'

const HTML = 'text/html; charset=utf-8'
const STYLE = 'text/css; charset=utf-8'
const SCRIPT = 'text/javascript; charset=utf-8'

/** Path to file and type: nothing else can be asked for. */
export const ASSETS: Readonly<Record<string, readonly [file: string, type: string]>> = {
  '/': ['index.html', HTML],
  '/style.css': ['style.css', STYLE],
  '/layout.css': ['layout.css', STYLE],
  '/clusters.css': ['clusters.css', STYLE],
  '/panels.css': ['panels.css', STYLE],
  '/icon.svg': ['icon.svg', 'image/svg+xml'],
  '/app.js': ['app.js', SCRIPT],
  '/actions.js': ['actions.js', SCRIPT],
  '/api.js': ['api.js', SCRIPT],
  '/cluster.js': ['cluster.js', SCRIPT],
  '/dom.js': ['dom.js', SCRIPT],
  '/failures.js': ['failures.js', SCRIPT],
  '/format.js': ['format.js', SCRIPT],
  '/history.js': ['history.js', SCRIPT],
  '/instances.js': ['instances.js', SCRIPT],
  '/logs.js': ['logs.js', SCRIPT],
  '/stream.js': ['stream.js', SCRIPT],
}

export function readAsset(file: string): Promise<Buffer> {
  return readFile(new URL(file, import.meta.url))
}
