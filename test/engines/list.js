/**
 * The real programs of others that tests run on: one line each. `needs` are the programs that must be there, each with
 * the Debian packages that it comes with; `tests` the files in this folder. An engine with `byName` runs only when it is
 * asked for by its name. What no package ships is `built`, by a script that is called for `NAME-build` alone. `timeout`, in
 * ms, is that of an engine which takes longer than others.
 */

/** What builds the programs of Kubernetes, and where they are kept. */
const KUBERNETES = { by: 'kubernetes-build.sh', folder: 'kubernetes-1.20.2' }
const CONTROL_PLANE = ['kube-apiserver', 'kube-controller-manager']

export const ENGINES = [
  { name: 'chromium', needs: { chromium: 'chromium' }, tests: ['dashboard'] },
  { name: 'prometheus', needs: { prometheus: 'prometheus' }, tests: ['prometheus'] },
  {
    name: 'docker',
    needs: { dockerd: 'docker.io', busybox: 'busybox-static', openssl: 'openssl' },
    tests: ['docker'],
  },
  {
    name: 'agent',
    needs: { ip: 'iproute2', tc: 'iproute2', iptables: 'iptables' },
    tests: ['agent'],
  },
  {
    name: 'podman',
    needs: { podman: 'podman', runc: 'runc', busybox: 'busybox-static' },
    tests: ['podman'],
  },
  // Its own programs lie outside of every PATH; this one comes with the package that they need.
  {
    name: 'postgresql',
    needs: { pg_ctlcluster: 'postgresql' },
    tests: ['postgres', 'feed-postgres'],
  },
  {
    name: 'slurm',
    needs: {
      sbatch: 'slurm-client',
      slurmctld: 'slurmctld',
      slurmd: ['slurmd', 'slurm-wlm-basic-plugins', 'slurm-wlm-jwt-plugin'],
      munged: 'munge',
      slurmrestd: 'slurmrestd',
    },
    tests: ['slurm'],
  },
  {
    name: 'kubernetes',
    needs: { etcd: 'etcd-server' },
    built: { ...KUBERNETES, programs: CONTROL_PLANE },
    tests: ['kubernetes'],
  },
  {
    name: 'kubernetes-full',
    byName: true,
    needs: {
      etcd: 'etcd-server',
      dockerd: 'docker.io',
      busybox: 'busybox-static',
      ip: 'iproute2',
      iptables: 'iptables',
      conntrack: 'conntrack',
      socat: 'socat',
    },
    built: {
      ...KUBERNETES,
      programs: [...CONTROL_PLANE, 'kube-scheduler', 'kube-proxy', 'kubelet'],
    },
    tests: ['kubernetes-full'],
    timeout: 1_200_000,
  },
  { name: 'ssh', needs: { sshd: 'openssh-server' }, tests: ['ssh', 'tasks-ssh'] },
  { name: 'mpi', needs: { mpirun: 'openmpi-bin' }, tests: ['mpi'] },
  // No Debian package has it: its test looks for it in PATH, and says so where it is not.
  { name: 'hypershell', needs: {}, tests: ['hypershell'] },
]
