#!/usr/bin/env bash
# Builds the Kubernetes programs that no package ships out of Debian's source package, once, into a folder outside of
# the tree: `kubernetes-build.sh FOLDER kube-apiserver ...`. It takes minutes, so nobody calls it who did not ask.
set -euo pipefail

folder=${1:?the folder to build into}
shift
programs=("$@")

missing=()
for program in "${programs[@]}"; do
  [ -x "$folder/$program" ] || missing+=("$program")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo -n)
lock=(-o DPkg::Lock::Timeout=600)
export DEBIAN_FRONTEND=noninteractive

mkdir -p "$folder"
work="$folder/source"
mkdir -p "$work/lists/partial"
cd "$work"

# What it vendors of reflect2 counts on a `reflect.mapiterinit` that Go 1.18 has changed: since then the caller gives the
# iterator. Unmended, the first object of a kind of its own (a ServiceMonitor) ends the API server with SIGSEGV.
mend() (
  cd "$1/vendor/github.com/modern-go/reflect2"
  sed -i 's/^func mapiterinit(.*/func mapiterinit(rtype unsafe.Pointer, m unsafe.Pointer, it *hiter)/
    s|^\t// rest fields are ignored$|\tpointers [6]unsafe.Pointer\n\tnumbers [4]uintptr|' unsafe_link.go
  sed -i 's/^\treturn &UnsafeMapIterator{$/\tit := new(hiter)\n\tmapiterinit(type2.rtype, *(*unsafe.Pointer)(obj), it)\n&/
    s/^\t\thiter: .*mapiterinit.*/\t\thiter: it,/' unsafe_map.go
  grep -q 'hiter: it,' unsafe_map.go && grep -q 'it \*hiter)$' unsafe_link.go
)

if [ ! -d tree ]; then
  "${as_root[@]}" apt-get "${lock[@]}" install -y --no-install-recommends \
    golang-1.19-go rsync jq make patch xz-utils
  # A sources list of our own: the machine's stays as it is.
  cat > sources.list <<'LIST'
deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main
LIST
  own=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$work/lists" -o APT::Sandbox::User=root)
  apt-get "${own[@]}" update
  apt-get "${own[@]}" source --download-only kubernetes
  rm -rf unpacked
  mkdir unpacked
  tar -xf kubernetes_*.orig.tar.* -C unpacked --strip-components=1
  tar -xf kubernetes_*.debian.tar.* -C unpacked
  (
    cd unpacked
    sed -e 's/[[:space:]]*#.*//' -e '/^[[:space:]]*$/d' debian/patches/series | while read -r name _; do
      patch -p1 --silent < "debian/patches/$name"
    done
  )
  mend unpacked
  mv unpacked tree
fi

cd tree
export PATH=/usr/lib/go-1.19/bin:$PATH GOPATH=$PWD/.go CGO_ENABLED=0 GOPROXY=off GOFLAGS=${GOFLAGS:-}
export GOMAXPROCS=${GOMAXPROCS:-1} GOCACHE=$work/cache
mkdir -p .go/src/k8s.io
ln -sfn ../../.. .go/src/k8s.io/kubernetes
what=()
for program in "${missing[@]}"; do what+=("cmd/$program"); done
nice -n 19 make WHAT="${what[*]}"
for program in "${missing[@]}"; do
  # Whole or not at all: a build that was cut short must not look like a program.
  cp "_output/bin/$program" "$folder/$program.new"
  mv "$folder/$program.new" "$folder/$program"
done
echo "built ${missing[*]} in $folder"
