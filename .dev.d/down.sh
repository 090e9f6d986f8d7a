## stops what ./dev up has started
##
## usage: ./dev down [--purge]
##
##   --purge   also removes the stores with all their volumes, the catalogue, the logs and the pid files
##
##   ./dev down
##   ./dev down --purge

source .dev.d/daemons.sh

purge=
while (($#)); do
    case $1 in
        --purge) purge=yes ;;
        *) usage "unknown option '$1'" ;;
    esac
    shift
done

seconds_max=30
stayed=()
# All of those named at once.
stop_all() {
    local name pid i deadline pids=() names=()
    for name in "$@"; do
        if pid=$(daemon_pid "$name"); then
            kill -TERM "$pid" 2>/dev/null || true
            pids+=("$pid")
            names+=("$name")
        fi
    done
    deadline=$((SECONDS + seconds_max))
    for i in "${!pids[@]}"; do
        while daemon_pid "${names[i]}" >/dev/null && ((SECONDS < deadline)); do sleep 0.1; done
        if daemon_pid "${names[i]}" >/dev/null; then
            say "$(called "${names[i]}") (pid ${pids[i]}) has not stopped $seconds_max s after SIGTERM; its log is $(log_of "${names[i]}")"
            stayed+=("${pids[i]}")
        else
            say "stopped $(called "${names[i]}") (pid ${pids[i]})"
            rm -f "$(pid_file_of "${names[i]}")"
        fi
    done
}
if ! any_runs "${daemons[@]}"; then say "no OST or metadata server of $state is running"; fi
# Metadata servers say goodbye to etcd; no other needs one to stop.
others=()
for name in "${daemons[@]}"; do if [[ $name != etcd* ]]; then others+=("$name"); fi; done
stop_all "${others[@]}"
stop_all "${etcd_daemons[@]}"
((${#stayed[@]} == 0)) || die "what is acknowledged survives: kill -9 ${stayed[*]}, then ./dev down${purge:+ --purge}"
for name in "${daemons[@]}"; do rm -f "$(pid_file_of "$name")"; done
rm -f "$socket" "$cluster_port"

# By name: the folder may be one that holds other things too.
if [[ -n $purge ]]; then
    for name in "${etcd_daemons[@]}"; do rm -rf "$(kept_of "$name")" "$(log_of "$name")"; done
    rm -f "$etcd_address"
    for name in "${daemons[@]}"; do rm -f "$(kept_of "$name")" "$(log_of "$name")"; done
    rm -f "$(kept_of mdt)"-{wal,shm} "$single_port" "$state/up.lock" "$state/fio.json" "$state/apt.log"
    rmdir --ignore-fail-on-non-empty "$state" 2>/dev/null || true
    say "removed the stores in $state"
fi
