/** A server that answers with what it was asked, as JSON; the body as latin1, so that each byte shows. */
import type { NodeHandler } from '../../providers/testing/index.ts'

export const echo: NodeHandler = async (req, res) => {
  const chunks: Buffer[] = []
  for await (const chunk of req) chunks.push(chunk as Buffer)
  res.setHeader('content-type', 'application/json')
  res.end(
    JSON.stringify({
      method: req.method,
      url: req.url,
      headers: req.headers,
      rawHeaders: req.rawHeaders,
      trailers: req.trailers,
      body: Buffer.concat(chunks).toString('latin1'),
      instance: req.instance,
    }),
  )
}
