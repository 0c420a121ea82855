// Starts instances on the provider that its argument says, prints their names, and waits to be killed.
// Argument: { module, make, options, base, command, ids } as JSON; `module` is compiled JavaScript.
const { module, make, options, base, command, ids } = JSON.parse(process.argv[2])
const provider = (await import(module))[make](options)
await Promise.all(
  ids.map((id) =>
    provider.start(
      {
        id,
        service: 'http://orphan',
        env: {},
        labels: {},
        concurrency: 1,
        onOutput() {},
        command,
        ...base,
      },
      { signal: new AbortController().signal },
    ),
  ),
)
console.log(JSON.stringify(ids))
setInterval(() => {}, 1_000)
