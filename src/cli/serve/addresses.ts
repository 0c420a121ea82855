/** Where to look. Pure. */

/** Names and URLs; the gateway with the path of a service, if there is but one that way to try it. */
export function listAddresses(
  gateways: readonly string[],
  admin: string | undefined,
  services: readonly string[],
  feed: readonly string[] = [],
): Record<string, string> {
  const only = services.length === 1 ? `/${new URL(services[0] as string).hostname}/` : ''
  const urls: Record<string, string> = {}
  for (const [index, url] of gateways.entries()) {
    const name = index === 0 ? 'gateway' : `gateway${index + 1}`
    urls[name] = url.startsWith('unix:') ? url : `${url}${only}`
  }
  for (const [index, url] of feed.entries()) urls[index === 0 ? 'feed' : `feed${index + 1}`] = url
  if (admin === undefined) return urls
  const isSocket = admin.startsWith('unix:')
  urls.dashboard = isSocket ? admin : `${admin}/`
  if (!isSocket) urls.metrics = `${admin}/metrics`
  return urls
}
