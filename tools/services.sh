#!/bin/sh
# Install the servers that tests start, where they are missing: etcd and PostgreSQL, from Debian's packages. Their
# packages would also start them as services of the system; while they are installed, policy-rc.d says no to that,
# and what is there already is not touched.
set -eu

POLICY=/usr/sbin/policy-rc.d

missing() {
  command -v etcd >/dev/null || echo etcd-server
  command -v etcdctl >/dev/null || echo etcd-client
  command -v openssl >/dev/null || echo openssl # certificates for them
  # Debian keeps PostgreSQL's binaries out of PATH.
  for postgres in "$(command -v postgres || true)" /usr/lib/postgresql/*/bin/postgres; do
    if [ -x "$postgres" ]; then return; fi
  done
  echo postgresql
}

# Without line ends, as arguments and in messages.
wanted=$(missing | xargs)
if [ -z "$wanted" ]; then
  echo 'etcd, openssl and PostgreSQL are there'
  exit
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "$wanted: missing, and cannot be installed here; that takes apt-get, as root" >&2
  exit 1
fi

if [ ! -e "$POLICY" ]; then
  trap 'rm -f "$POLICY"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$POLICY"
  chmod +x "$POLICY"
fi
echo "installing $wanted"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # one word for each package
{ apt-get -qq update && apt-get -qq install -y --no-install-recommends $wanted; } >/dev/null
wanted=$(missing | xargs)
if [ -n "$wanted" ]; then
  echo "$wanted: installed, and yet its server is not found" >&2
  exit 1
fi
