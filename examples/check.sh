# What the scripts of the examples share: each step is named, checked, and the first that fails ends all.
# Sourced by examples/*/run. `rbox` is in the search path. In a lab, LAB_OUTSIDE names a second host
# (a network namespace) and LAB_ADDRESS this host's address as that one knows it.
set -euo pipefail

# step WHAT: says what comes next.
step() { printf -- '-- %s\n' "$*"; }

# fail WHY: ends the example.
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

# same GOT WANTED WHAT
same() { [ "$1" = "$2" ] || fail "$3: got '$1' instead of '$2'"; }

# within SECONDS COMMAND...: until the command succeeds.
within() {
    local end=$((SECONDS + $1)); shift
    until "$@" > /dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "in vain: $*"
        sleep 0.1
    done
}

# said FILE TEXT
said() { grep -qaF -- "$2" "$1"; }

# echoed ADDRESS PORT: sends a line and wants it back.
echoed() {
    local line
    line=$(timeout 10 bash -c 'exec 3<> "/dev/tcp/$0/$1" && printf "hello\r\n" >&3 && IFS= read -r line <&3 && printf %s "$line"' "$1" "$2") || return 1
    [ "$line" = $'hello\r' ]
}

# echoed_outside ADDRESS PORT: the same from a second host, where there is one.
echoed_outside() {
    if [ -n "${LAB_OUTSIDE:-}" ]; then
        ip netns exec "$LAB_OUTSIDE" bash -c "$(declare -f echoed); echoed $1 $2"
    else
        echo "   (no second host here: not checked)"
    fi
}

# own_address: an address of this host that is neither loopback nor rbox's bridge.
own_address() {
    if [ -n "${LAB_ADDRESS:-}" ]; then
        echo "$LAB_ADDRESS"
    else
        ip -4 -o address show scope global | awk '$2 !~ /^(rbox|docker)/ { sub("/.*", "", $4); print $4; exit }'
    fi
}

# clean: removes what an earlier run may have left; for `trap clean EXIT` too.
clean() { for name in ${CONTAINERS:-}; do rbox rm -f "$name" > /dev/null 2>&1 || :; done; }
