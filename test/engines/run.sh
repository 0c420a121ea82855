#!/usr/bin/env bash
# Tests against real programs of others. Installs those that are missing; says loudly which ones it could not get.
set -uo pipefail
cd "$(dirname "$0")/../.."

# Program and Debian package.
engines=(chromium:chromium prometheus:prometheus /usr/lib/postgresql/15/bin/postgres:postgresql)

missing=()
for engine in "${engines[@]}"; do
  command -v "${engine%%:*}" >/dev/null || missing+=("${engine##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "== apt-get install ${missing[*]}"
  root=()
  [ "$(id -u)" = 0 ] || root=(sudo -n)
  DEBIAN_FRONTEND=noninteractive
  export DEBIAN_FRONTEND
  { "${root[@]}" apt-get update && "${root[@]}" apt-get install -y --no-install-recommends "${missing[@]}"; } >/dev/null
fi
for engine in "${engines[@]}"; do
  command -v "${engine%%:*}" >/dev/null ||
    echo "!! NOT RUN: the package mirror did not give ${engine##*:}; all tests that need it are skipped." >&2
done

exec npx vitest run --project engines "$@"
