## stops what ./dev up has started
##
## usage: ./dev down [--purge]
##
##   --purge   also removes the store with all its volumes, the logs and the pid file
##
##   ./dev down
##   ./dev down --purge

source .dev.d/ost.sh

purge=
while (($#)); do
    case $1 in
        --purge) purge=yes ;;
        *) usage "unknown option '$1'" ;;
    esac
    shift
done

seconds_max=30
if pid=$(ost_pid); then
    kill -TERM "$pid"
    for ((tenths = 0; tenths < seconds_max * 10; tenths++)); do
        ost_pid >/dev/null || break
        sleep 0.1
    done
    if ost_pid >/dev/null; then
        die "the OST (pid $pid) has not stopped $seconds_max s after SIGTERM; its log is $ost_log; what is acknowledged survives: kill -9 $pid"
    fi
    say "stopped the OST (pid $pid)"
else
    say "no OST of $state is running"
fi
rm -f "$pid_file" "$store.sock"

# By name: the folder may be one that holds other things too.
if [[ -n $purge ]]; then
    rm -f "$store" "$ost_log" "$state/port" "$state/up.lock" "$state/fio.json" "$state/apt.log"
    rmdir --ignore-fail-on-non-empty "$state" 2>/dev/null || true
    say "removed the store in $state"
fi
