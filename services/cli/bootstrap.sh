#!/bin/sh
# Makes .venv and installs dinrail into it, from the folder of a clone.  bootstrap.sh EXTRA   (all | dev)
# Needs python3 (3.11 or newer) with its venv module; where Debian's lacks it, root gets the package installed.
set -eu

extra=$1
venv=.venv

say() { echo "dinrail: $*" >&2; }

find_python() {
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    say "python 3.11 or newer is needed; name it with PYTHON=/path/to/python3 make ..."
    exit 2
}

need_venv_module() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null && return
    package=$("$1" -c 'import sys; print("python3.%d-venv" % sys.version_info[1])')
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "$1 cannot make virtual environments; as root, run once:  apt-get update && apt-get install -y $package"
        exit 2
    fi
    say "installing $package, without which $1 cannot make virtual environments"
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$package" >/dev/null
}

if [ ! -x "$venv/bin/pip" ]; then
    python=$(find_python)
    need_venv_module "$python"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
say "installing dinrail[$extra] into $venv ..."
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extra]"
