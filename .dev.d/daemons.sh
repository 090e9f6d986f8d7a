# The daemons that `up` starts and `down` stops, each under a name that its files begin with: where those are, and whether it runs.

# The management server first, then the metadata server: those behind register there.
cluster_daemons=(mgs mdt ost1 ost2 ost3)
# With --etcd: below three metadata servers.
etcd_daemons=(etcd1 etcd2 etcd3)
shared_daemons=(mgs "${etcd_daemons[@]}" mdt mdt2 mdt3 ost1 ost2 ost3)
# `ost` is the one of --single.
daemons=(ost "${shared_daemons[@]}")

program_of() {
    case $1 in
        etcd*) echo etcd ;;
        mdt*) echo rawstor-mdt ;;
        mgs) echo rawstor-mgs ;;
        *) echo rawstor-ost ;;
    esac
}
# What it keeps: the catalogue, or the store. The management server keeps nothing.
kept_of() {
    case $1 in
        mgs) ;;
        mdt*) if [[ -s $etcd_address ]]; then cat "$etcd_address"; else echo "$state/mdt.db"; fi ;;
        *) echo "$state/$1.store" ;;
    esac
}
log_of() { echo "$state/$1.log"; }
pid_file_of() { echo "$state/$1.pid"; }
called() { if [[ $1 == ost ]]; then echo "the OST"; else echo "$1"; fi; }

# Only that of --single has one.
socket=$state/ost.store.sock
# The port that was asked for, for as long as the daemons are meant to run.
single_port=$state/port
cluster_port=$state/cluster.port
# With --etcd: where the catalogue is.
etcd_address=$state/etcd.address

# Prints the pid of a running daemon; fails when it does not run. A pid file outlives a crash and the number may be another program's by
# now, so that program must be ours and serve this very store.
daemon_pid() {
    local file pid words program
    file=$(pid_file_of "$1")
    program=$(program_of "$1")
    [[ -r $file ]] && pid=$(<"$file") && [[ $pid =~ ^[0-9]+$ ]] || return 1
    [[ $(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) =~ ^[^ZX]$ ]] || return 1
    # After a rebuild the kernel calls the file it was started from deleted.
    [[ $(readlink "/proc/$pid/exe" 2>/dev/null) =~ /$program( \(deleted\))?$ ]] || return 1
    mapfile -d '' -t words <"/proc/$pid/cmdline" 2>/dev/null || return 1
    [[ ${words[1]:-} == serve || ${words[1]:-} == --data-dir ]] || return 1
    # One that keeps nothing is known by its port.
    if [[ $1 == mgs ]]; then
        [[ -s $cluster_port && ${words[*]:2:2} == "--listen 127.0.0.1:$(($(<"$cluster_port") + 6))" ]] || return 1
    else
        [[ ${words[2]:-} == "$(kept_of "$1")" ]] || return 1
    fi
    echo "$pid"
}

# Whether one of those named runs.
any_runs() {
    local name
    for name in "$@"; do
        if daemon_pid "$name" >/dev/null; then return 0; fi
    done
    return 1
}
