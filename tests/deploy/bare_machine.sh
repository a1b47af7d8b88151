#!/bin/sh
# What a new user does on a bare Debian, as root: install git, make and python3, clone, make up.
# bare_machine.sh REPOSITORY   in a throw-away container with a terminal; ends after Ctrl-C and says what is left.
# Exit code 77: Debian's packages cannot be had here.
set -eu

apt-get -qq update || exit 77
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends git make python3 >/dev/null || exit 77
git config --global safe.directory '*' # the clone is mounted, and another user's
git clone -q "$1" dinrail
cd dinrail

trap : INT # as the shell of a terminal, this one outlives the Ctrl-C that ends make
make up || echo "make ended with $?"

for process in /proc/[0-9]*; do
    read -r name <"$process/comm" || continue
    case $name in
    sh | docker-init | tini) ;;
    *) echo "left running: $name" ;;
    esac
done
echo "bare machine: done"
