#!/bin/sh
# sh run.sh CONFIGURATION FOLDER: runs mosquitto, and lets it read its files again when those in the folder have changed.
# For the broker's container, which has no program of ours; `dinrail up` does the same (services/cli/broker_reload.py).

cd "$2" || exit 1

contents() { sha256sum acl passwords server.pem 2>&1; }

# mosquitto 2.0 lets everybody do everything once it has read access rules again that it cannot read or understand.
whole() {
    [ -r passwords ] && [ -r acl ] && [ -z "$(tail -c 1 acl)" ] && grep -q '^user ' acl &&
        ! grep -qvE '^(#.*|user [a-z0-9_-]+|topic (read|write|readwrite) [^ ]+)?$' acl
}

follow() {
    known=$1
    while sleep 0.5; do
        now=$(contents)
        [ "$now" = "$known" ] && continue
        known=$now
        if whole; then
            kill -HUP "$broker"
        else
            echo "the broker goes on with the access rules that it has: acl or passwords cannot be read, or are not whole" >&2
        fi
    done
}

before=$(contents)
mosquitto -c "$1" &
broker=$!
trap 'kill -TERM "$broker"' TERM INT
follow "$before" &
follower=$!
wait "$broker"
code=$?
if [ "$code" -gt 128 ]; then # a signal to this script came first, or the broker has died by one and is unknown now
    wait "$broker" 2>/dev/null
    again=$?
    [ "$again" -eq 127 ] || code=$again
fi
kill "$follower"
exit "$code"
