#!/bin/sh
# Install programs that pip cannot bring, from Debian's packages: demo/system-packages.sh redis-server chromium
# Does nothing for those that are there. Where it may not install, the tests that need them are skipped.
set -eu

missing=
for program in "$@"; do
	command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "Not here:$missing. Install them with your system's package manager; until then what needs them is skipped." >&2
	exit 0
elif [ "$(id -u)" = 0 ]; then
	as_root=
elif sudo -n true 2>/dev/null; then
	as_root="sudo"
else
	echo "Not here:$missing. Run 'sudo apt-get install$missing'; until then what needs them is skipped." >&2
	exit 0
fi

echo "Installing Debian packages:$missing"
$as_root apt-get update -q >/dev/null
# Run level 1: the packages' own services are not started.
# shellcheck disable=SC2086 # a list of words
$as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -q --no-install-recommends $missing >/dev/null
