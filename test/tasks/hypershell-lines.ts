/**
 * Command lines that mean the same to HyperShell 2.8 and to `manyhost tasks`, with what the last command of each prints. The
 * answers are those of HyperShell's documentation and source; test/engines/hypershell.engine.test.ts holds the original
 * against them where it is installed. Sizes are in bytes: `2GB` is 2 x 10^9 bytes here, and 2 x 1024^3 in HyperShell.
 */

export interface Case {
  /** Commands without the program, one after the other; `-f` of `update` so that nobody is asked. */
  readonly commands: readonly (readonly string[])[]
  /** Lines of the last one's output, in any order where nothing sorts them. */
  readonly prints: readonly string[]
  /** Nothing is handed in before. */
  readonly isEmpty?: boolean
}

/** What `TASKS` is handed in as, but for cases that begin with an empty store. */
export const TASKS = `a # HYPERSHELL: site:x run:1
b # HYPERSHELL: site:x run:2 final:true
c # HYPERSHELL: site:y cores:2 memory:2147483648 timeout:30 group:1
d
`

/** Files that lie in the folder that the commands run in. */
export const FILES: Readonly<Record<string, string>> = {
  'tasks.txt': TASKS,
  'paths.txt': '/data/run/a.tar.gz\n',
  'number.txt': '7\n',
  'words.txt': 'one two three four\n',
  'all.txt': '# HYPERSHELL: cores:3 set:all\ne\nf # HYPERSHELL: cores:1\n',
}

const list = (...words: string[]): readonly (readonly string[])[] => [['list', 'args', ...words]]
const after = (update: readonly string[], ...words: string[]): readonly (readonly string[])[] => [
  ['update', ...update, '-f'],
  ['list', 'args', ...words],
]
const made = (template: string, file: string): readonly (readonly string[])[] => [
  ['submit', '-f', file, '--template', template],
  ['list', 'args'],
]

const FILTERS: readonly Case[] = [
  { commands: list(), prints: ['a', 'b', 'c', 'd'] },
  { commands: list('-t', 'site:x'), prints: ['a', 'b'] },
  { commands: list('-t', 'site:x', 'run:2'), prints: ['b'] },
  { commands: list('--with-tag', 'site:x', 'run:1'), prints: ['a'] },
  { commands: list('-t', 'site'), prints: ['a', 'b', 'c'] },
  { commands: list('-t', 'site', 'final:true'), prints: ['b'] },
  { commands: list('-t', 'site:z'), prints: [] },
  { commands: [['list', '-t', 'site:x', 'run:2', '--', 'args']], prints: ['b'] },
  { commands: list('-w', 'group == 1'), prints: ['c'] },
  { commands: list('-w', 'group == 0', 'args != a'), prints: ['b', 'd'] },
  { commands: list('--where', 'group == 0', 'args > b'), prints: ['d'] },
  { commands: [['list', '-w', 'args == a', '--', 'args']], prints: ['a'] },
  { commands: list('-w', 'args==a'), prints: ['a'] },
  { commands: list('-w', 'args ~ ^[ab]'), prints: ['a', 'b'] },
  { commands: list('-w', 'cores == 2'), prints: ['c'] },
  { commands: list('-w', 'cores == null'), prints: ['a', 'b', 'd'] },
  { commands: list('-w', 'cores != null'), prints: ['c'] },
  { commands: list('-w', 'memory == 2147483648'), prints: ['c'] },
  { commands: list('-w', 'timeout == 30'), prints: ['c'] },
  { commands: list('-w', 'timeout > 29', 'timeout < 31'), prints: ['c'] },
  { commands: list('-w', 'timeout >= 31'), prints: [] },
  { commands: list('-w', 'attempt == 1'), prints: ['a', 'b', 'c', 'd'] },
  { commands: list('-w', 'attempt <= 0'), prints: [] },
  { commands: list('-w', 'schedule_time == null'), prints: ['a', 'b', 'c', 'd'] },
  { commands: list('-g', '1'), prints: ['c'] },
  { commands: list('-g', '0', '-t', 'site:x'), prints: ['a', 'b'] },
  { commands: list('-R'), prints: ['a', 'b', 'c', 'd'] },
  { commands: list('-C'), prints: [] },
  { commands: list('--finished'), prints: [] },
  { commands: list('-F'), prints: [] },
  { commands: list('-S'), prints: [] },
  { commands: list('--retries'), prints: [] },
  { commands: list('-s', 'args', '--desc', '-l', '1'), prints: ['d'] },
  { commands: list('-s', 'args', '-l', '2'), prints: ['a', 'b'] },
  { commands: [['list', '-c', '-t', 'site:x']], prints: ['2'] },
  { commands: [['list', 'timeout', '-w', 'args == c']], prints: ['30'] },
  { commands: [['list', 'cores', '-g', '1']], prints: ['2'] },
  { commands: [['list', 'memory', '-g', '1']], prints: ['2147483648'] },
]

const UPDATES: readonly Case[] = [
  { commands: after(['group=2', '-t', 'site:x'], '-g', '2'), prints: ['a', 'b'] },
  { commands: after(['group=2', '-t', 'site:x', 'run:2'], '-g', '2'), prints: ['b'] },
  { commands: after(['timeout=60'], '-w', 'timeout == 60'), prints: ['a', 'b', 'c', 'd'] },
  {
    commands: [
      ['update', 'timeout=90', '-w', 'args == a', '-f'],
      ['list', 'timeout', '-w', 'args == a'],
    ],
    prints: ['90'],
  },
  { commands: after(['timeout=null', '-g', '1'], '-w', 'timeout != null'), prints: [] },
  {
    commands: after(['cores=4', '-w', 'group == 0', 'args != a'], '-w', 'cores == 4'),
    prints: ['b', 'd'],
  },
  { commands: after(['memory=1024', '-g', '1'], '-w', 'memory == 1024'), prints: ['c'] },
  { commands: after(['args=z', '-w', 'args == a']), prints: ['z', 'b', 'c', 'd'] },
  {
    commands: after(['new:1', 'other:yes', '-t', 'site:x', 'run:2'], '-t', 'new:1', 'other:yes'),
    prints: ['b'],
  },
  { commands: after(['run:9', '-t', 'run:1'], '-t', 'run:9'), prints: ['a'] },
  { commands: after(['--remove-tag', 'run', 'final', '-t', 'site:x'], '-t', 'run'), prints: [] },
  { commands: after(['--cancel', '-t', 'site:y'], '-w', 'exit_status == -1'), prints: ['c'] },
  { commands: after(['--cancel', '-t', 'site:x', 'run:1'], '-R'), prints: ['b', 'c', 'd'] },
  { commands: after(['--delete', '-w', 'group == 0', 'args > b']), prints: ['a', 'b', 'c'] },
]

const SUBMITS: readonly Case[] = [
  {
    isEmpty: true,
    commands: [['submit', '-t', 'a:1', 'b:2', '--', 'echo', 'hi'], ...list('-t', 'a:1', 'b:2')],
    prints: ['echo hi'],
  },
  {
    isEmpty: true,
    commands: [['submit', '--tag', 'a:1', 'b', '--', 'echo', 'hi'], ...list('-t', 'a:1')],
    prints: ['echo hi'],
  },
  { isEmpty: true, commands: [['submit', 'echo', 'hi'], ...list()], prints: ['echo hi'] },
  { isEmpty: true, commands: [['submit', 'tasks.txt'], ...list()], prints: ['a', 'b', 'c', 'd'] },
  {
    isEmpty: true,
    commands: [
      ['submit', '--task-file', 'tasks.txt', '-t', 'q:1', 'r:2'],
      ...list('-t', 'q:1', 'r:2'),
    ],
    prints: ['a', 'b', 'c', 'd'],
  },
  {
    isEmpty: true,
    commands: [
      ['submit', '-c', '2', '-m', '1073741824', '-W', '5', '-g', '3', '--', 'x'],
      ...list('-w', 'cores == 2', 'memory == 1073741824', 'timeout == 5', 'group == 3'),
    ],
    prints: ['x'],
  },
  {
    isEmpty: true,
    commands: [['submit', '-f', 'all.txt'], ...list('-t', 'set:all', '-w', 'cores == 3')],
    prints: ['e'],
  },
  {
    isEmpty: true,
    commands: [['submit', '-f', 'all.txt'], ...list('-w', 'cores == 1')],
    prints: ['f'],
  },
  // A task that names no group goes to the one that is worked on: of tasks that wait, the first.
  {
    isEmpty: true,
    commands: [['submit', '-g', '3', '--', 'x'], ['submit', '--', 'y'], ...list('-g', '3')],
    prints: ['x', 'y'],
  },
]

const TEMPLATES: readonly Case[] = (
  [
    ['run {}', 'paths.txt', 'run /data/run/a.tar.gz'],
    ['{.}', 'paths.txt', '/data/run'],
    ['{..}', 'paths.txt', '/data'],
    ['{/}', 'paths.txt', 'a.tar.gz'],
    ['{/-}', 'paths.txt', 'a.tar'],
    ['{-}', 'paths.txt', '/data/run/a.tar'],
    ['{+} {++}', 'paths.txt', '.gz gz'],
    ['{[0]} {[1:3]} {[::2]}', 'words.txt', 'one two three one three'],
    ['{= x + 1 =}', 'number.txt', '8'],
    ['{= "%03d" % x =}', 'number.txt', '007'],
    ["{= 'odd' if x % 2 else 'even' =}", 'number.txt', 'odd'],
    ['{= "-".join(w.upper() for w in x.split() if len(w) > 3) =}', 'words.txt', 'THREE-FOUR'],
    ['{= path.basename(x)[:1] =}', 'paths.txt', 'a'],
  ] as const
).map(([template, file, prints]) => ({
  isEmpty: true,
  commands: made(template, file),
  prints: [prints],
}))

export const CASES: readonly Case[] = [...FILTERS, ...UPDATES, ...SUBMITS, ...TEMPLATES]

/** Option spellings of HyperShell 2.8, by command. */
export const SPELLINGS: Readonly<Record<string, string>> = {
  cluster:
    '-N --num-threads --num-tasks -t --template -b --bundlesize -w --bundlewait -d --delay-start -r --max-retries --eager --no-db --initdb --no-confirm -Q --poll --forever --restart --ssh --mpi --launcher --ssh-args --ssh-group --remote-exe -E --env -H --bind -p --port -o --output -e --errors --capture --monitor -c --cores -m --memory -C --client-cores -M --client-memory -R --ratelimit -f --failures -W --task-timeout -T --timeout -S --signalwait -A --autoscaling -F --factor -P --period -X --min-size -Y --max-size -I --init-size --no-tls --tls-key --tls-cert --tls-ca',
  server:
    '-b --bundlesize -w --bundlewait -c --task-cores -m --task-memory -W --task-timeout -r --max-retries --eager --forever --restart -Q --poll -H --bind -p --port -k --auth --no-db --initdb --no-confirm --print -f --failures --no-tls --tls-key --tls-cert --tls-ca --available-ports',
  submit:
    '-f --task-file -b --bundlesize -w --bundlewait --template -c --cores -m --memory -W --timeout -g --group --initdb -q --queue -H --host -p --port -k --auth --no-tls --tls-key --tls-cert --tls-ca -t --tag',
  info: '--stdout --stderr --perf -x --extract -f --format --json --yaml -i --ignore-partitions',
  wait: '-n --interval -i --info -s --status -r --return -f --format --json --yaml',
  run: '-n --interval -t --tag',
  list: '--fields -w --where -t --with-tag -s --order-by --desc -l --limit -c --count -F --failed -C --completed -S --succeeded -R --remaining --finished -g --group --retries -f --format --json --csv -d --delimiter --tag-keys --tag-values -i --ignore-partitions',
  update:
    '-w --where -t --with-tag -s --order-by --desc -l --limit -F --failed -C --completed -S --succeeded -R --remaining -g --group --retries --revert --cancel --delete --remove-tag -f --no-confirm',
  initdb: '-v --vacuum -b --backup -r --rotate -t --truncate -y --yes',
}
