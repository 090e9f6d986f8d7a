# The OST that `up` starts and `down` stops: where its files are, and whether it runs.

store=$state/ost.store
ost_log=$state/ost.log
pid_file=$state/ost.pid

# Prints the pid of the running OST; fails when there is none. A pid file outlives a crash and the number may be another program's by
# now, so that program must be ours and serve this very store.
ost_pid() {
    local pid words
    [[ -r $pid_file ]] && pid=$(<"$pid_file") && [[ $pid =~ ^[0-9]+$ ]] || return 1
    [[ $(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) =~ ^[^ZX]$ ]] || return 1
    # After a rebuild the kernel calls the file it was started from deleted.
    [[ $(readlink "/proc/$pid/exe" 2>/dev/null) =~ /rawstor-ost( \(deleted\))?$ ]] || return 1
    mapfile -d '' -t words <"/proc/$pid/cmdline" 2>/dev/null || return 1
    [[ ${words[1]:-} == serve && ${words[2]:-} == "$store" ]] || return 1
    echo "$pid"
}
