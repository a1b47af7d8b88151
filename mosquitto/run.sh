#!/bin/sh
# sh run.sh CONFIGURATION FOLDER: runs mosquitto, and lets it read its files again when those in the folder have changed.
# For the broker's container, which has no program of ours; `dinrail up` does the same (services/cli/broker_reload.py).

cd "$2" || exit 1
ANEW=3 # what the follower ends with when mosquitto is to be started anew
stopping=
store=$(sed -n 's/^persistence_location //p' "$1")

contents() { sha256sum acl passwords server.pem 2>&1; }
certificate() { sha256sum server.pem 2>&1; }
saved() { ls -li "$store"mosquitto.db 2>&1; } # written as a whole, so in another inode
saving() { [ -f "$store"mosquitto.db.new ]; }

# mosquitto 2.0 lets everybody do everything once it has read access rules again that it cannot read or understand.
whole() {
    [ -r passwords ] && [ -r acl ] && [ -z "$(tail -c 1 acl)" ] && grep -q '^user ' acl &&
        ! grep -qvE '^(#.*|user [a-z0-9_-]+|topic (read|write|readwrite) [^ ]+)?$' acl
}

has_key() { grep -q -e '-END CERTIFICATE-' server.pem && grep -q -e '-END .*PRIVATE KEY-' server.pem; }

# With another certificate mosquitto is started anew, once the files rest: broker_reload.py says why.
follow() {
    known=$1 last=$1 shown=$2
    while sleep 0.5; do
        now=$(contents)
        before=$last last=$now
        [ "$now" = "$known" ] && continue
        [ "$(certificate)" = "$shown" ] || [ "$now" = "$before" ] || continue
        known=$now
        if ! whole; then
            echo "the broker goes on with the access rules that it has: acl or passwords cannot be read, or are not whole" >&2
        elif [ "$(certificate)" = "$shown" ]; then
            kill -HUP "$broker"
        elif ! has_key; then
            echo "the broker goes on with the certificate that it has: server.pem holds none with its key" >&2
            kill -HUP "$broker" # who is no user any more does not stay for that
        else
            # At SIGTERM mosquitto publishes and keeps all last wills, so that every service looks dead: it saves, and is killed.
            before_save=$(saved) looks=0
            kill -USR1 "$broker"
            while [ "$(saved)" = "$before_save" ]; do
                if [ "$looks" -ge 1200 ] || { [ "$looks" -ge 100 ] && ! saving; }; then # a minute; 5 s to begin
                    echo "the broker has not saved what it holds; what came since it last did is gone" >&2
                    break
                fi
                looks=$((looks + 1))
                sleep 0.05
            done
            trap '' TERM # who waits for the broker ends us too, and is to hear why the broker has ended
            kill -KILL "$broker"
            exit "$ANEW"
        fi
    done
}

trap 'stopping=1; kill -TERM "$broker"' TERM INT
while :; do
    at_start=$(contents)
    shown=$(certificate)
    mosquitto -c "$1" &
    broker=$!
    follow "$at_start" "$shown" &
    follower=$!
    [ -z "$stopping" ] || kill -TERM "$broker"
    wait "$broker"
    code=$?
    if [ "$code" -gt 128 ]; then # a signal to this script came first, or the broker has died by one and is unknown now
        wait "$broker" 2>/dev/null
        again=$?
        [ "$again" -eq 127 ] || code=$again
    fi
    kill "$follower" 2>/dev/null
    wait "$follower" 2>/dev/null
    [ "$?" -eq "$ANEW" ] && [ -z "$stopping" ] || exit "$code"
done
