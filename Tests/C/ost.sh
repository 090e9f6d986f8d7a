# Sourced by test scripts that need an OST: `need_ost FOLDER` starts one, unless RAWSTOR_TEST_OST names one already, and sets that. Where
# there is none to be had the variable stays unset, and the tests are skipped. `ost_pid` is the daemon's, empty where it is not ours.

ost_pid=

# On a socket in FOLDER: no port to collide with.
need_ost() {
    local folder=$1 root
    [[ -z ${RAWSTOR_TEST_OST:-} ]] || return 0
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
    grep -q '"rawstor-ost"' "$root/Package.swift" || return 0
    local flags=(-c release --static-swift-stdlib)
    if ! (cd "$root" && swift build "${flags[@]}" --product rawstor-ost) >"$folder/ost-build.log" 2>&1; then
        cat "$folder/ost-build.log"
        return 1
    fi
    ost_program=$(cd "$root" && swift build "${flags[@]}" --show-bin-path)/rawstor-ost
    ost_folder=$folder
    "$ost_program" init "$folder/store" --size "${2:-1G}" >"$folder/ost.log" 2>&1 && start_ost
}

# Also after it was killed.
start_ost() {
    rm -f "$ost_folder/socket"
    # A child of this shell itself, so that the pid is the daemon's.
    "$ost_program" serve "$ost_folder/store" --listen-unix "$ost_folder/socket" >>"$ost_folder/ost.log" 2>&1 &
    ost_pid=$!
    local tenths
    for ((tenths = 0; tenths < 100; tenths++)); do
        if [[ -S $ost_folder/socket ]]; then
            export RAWSTOR_TEST_OST=$ost_folder/socket
            return 0
        fi
        kill -0 "$ost_pid" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$ost_folder/ost.log"
    return 1
}

# With the status that the daemon ends with: 0 when it was asked to.
stop_ost() {
    local status=0
    if [[ -n $ost_pid ]]; then
        kill "-${1:-TERM}" "$ost_pid" 2>/dev/null
        # One that hangs does not hang the test.
        local tenths
        for ((tenths = 0; tenths < 300; tenths++)); do
            kill -0 "$ost_pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$ost_pid" 2>/dev/null
        wait "$ost_pid" 2>/dev/null || status=$?
    fi
    ost_pid=
    return $status
}

# The URL of a volume on it.
ost_url() {
    if [[ $RAWSTOR_TEST_OST == /* ]]; then echo "ost+unix:///$1?socket=$RAWSTOR_TEST_OST"; else echo "ost://$RAWSTOR_TEST_OST/$1"; fi
}
