/** A batch from its source to its last outcome. `dist` has the runner's program: npm test builds it. */
import {
  type ClusterRunOptions,
  runCluster,
  type TaskResult,
  type TaskSource,
} from '../../src/tasks.ts'

/** All outcomes, and what was written. */
export async function collect(source: TaskSource | undefined, options: ClusterRunOptions = {}) {
  let text = ''
  const problems: string[] = []
  const run = runCluster(source, {
    inMemory: options.store === undefined,
    numTasks: 4,
    signalWait: 300,
    onOutput: (_task, stream, chunk) => {
      text += `${stream} ${Buffer.from(chunk)}`
    },
    onProblem: (problem) => problems.push(problem),
    ...options,
  })
  const results: TaskResult[] = []
  for await (const one of run) results.push(one)
  return { results, counts: await run, text, problems }
}
