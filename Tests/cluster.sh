# What tests of a cluster of real daemons share (Tests/MDT/run, Tests/MGS/run): they source it from their own folder.
#
# Every command has a limit of its own, so that one that hangs is a failure and not a test that never ends.

root=$(cd ../.. && pwd)
work=$(mktemp -d)
declare -A pids=()
clean() {
    local pid
    for pid in "${pids[@]}"; do
        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    rm -rf "$work"
}
trap clean EXIT

passed=0
failed=0
result() {
    if (($1 == 0)); then
        echo "ok - $2"
        passed=$((passed + 1))
    else
        echo "not ok - $2"
        for file in out err mgs.log mdt.log ost0.log; do
            [[ -s $work/$file ]] && sed "s/^/# $file: /" "$work/$file" | cut -c1-300 | tail -n 12
        done
        failed=$((failed + 1))
    fi
}
finish() {
    echo "$passed passed, $failed failed"
    exit $((failed > 0))
}

# Built elsewhere with RAWSTOR_BIN.
built=${RAWSTOR_BIN:-}
if [[ -z $built ]]; then
    flags=(-c release --static-swift-stdlib)
    for product in rawstor rawstor-ost rawstor-mdt rawstor-mgs; do
        (cd "$root" && swift build "${flags[@]}" --product "$product") >"$work/out" 2>&1 || { result 1 "$product builds"; finish; }
    done
    built=$(cd "$root" && swift build "${flags[@]}" --show-bin-path)
fi

# Runs a program of ours; its exit code is then in $status.
run() {
    local program=$1
    shift
    timeout -k 5 60 "$built/$program" "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
}
# expect NAME STATUS PATTERN PROGRAM ARGUMENTS: the exit code, and an extended regular expression in what was printed.
expect() {
    local name=$1 wanted=$2 pattern=$3 held=0
    shift 3
    run "$@"
    if [[ $status != "$wanted" ]]; then held=1; fi
    grep -Eq -- "$pattern" "$work/out" "$work/err" || held=1
    ((held)) && echo "# exit $status instead of $wanted, or no /$pattern/: $*"
    result $held "$name"
}
# The value of an expression over the JSON document `d` that the last command has printed.
json() { python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$work/out" "$1" 2>>"$work/err"; }
# The exit code, and a line of what status of the cluster says, which is in $work/out.
told() {
    timeout 20 "$built/rawstor" status "$cluster_url" >"$work/out" 2>"$work/err"
    [[ $? == "$1" ]] && grep -Eq -- "$2" "$work/out"
}
# Waits until a command of the shell succeeds, at most thirty seconds.
wait_until() {
    local tenths
    for ((tenths = 0; tenths < 300; tenths++)); do
        if eval "$1"; then return 0; fi
        sleep 0.1
    done
    return 1
}
# Starts a daemon in the background and learns its port: in $port.
start() {
    local name=$1 log=$work/$1.log
    shift
    : >"$log"
    "$built/$@" >>"$log" 2>&1 &
    pids[$name]=$!
    port=
    wait_until "grep -q 'listening address=127' '$log' || ! kill -0 ${pids[$name]} 2>/dev/null"
    port=$(sed -n 's/.* listening address=127\.0\.0\.1:\([0-9]*\)$/\1/p' "$log")
    [[ -n $port ]]
}
# Ends one; its exit code is then in $status.
stop() {
    kill "-$2" "${pids[$1]}"
    wait "${pids[$1]}" 2>/dev/null
    status=$?
    unset "pids[$1]"
}
