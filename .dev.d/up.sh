## builds, starts a small cluster on this machine, makes a volume and checks it with fio
##
## usage: ./dev up [--single | --etcd] [--port N] [--size S]
##
##   --single   one OST alone and a volume on it (ost://), without servers beside it and replicas
##   --etcd     three metadata servers, on an etcd of three servers, in place of one
##   --port N   the first port of 127.0.0.1. The metadata server listens on N (default 7700) and has its metrics on N+1; the management
##              server listens on N+6, with metrics on N+7; the three OSTs listen on N+10, N+12 and N+14, with metrics on N+11, N+13, N+15.
##              With --etcd the other metadata servers are on N+2 and N+4, etcd on N+16 to N+18, and on N+19 to N+21 among itself.
##              With --single the OST listens on N (default 7710), and its metrics are on N+1
##   --size S   size of the volume vm1 (default 1G, with --single 2G); each store gets twice as much, and takes that from the disk
##
## The cluster is a management server, which the volume's address names, a metadata server (or, with --etcd, three of them and an etcd) and
## three OSTs, each of which says that it is a host of its own; vm1 has two replicas. Installs what is missing from the distribution.
## Stores, catalogue, logs and pid files are in .dev, or in the folder that RAWSTOR_STATE names. Leaves all of it running. Run again it
## starts only what does not run: a daemon that was killed serves its old store again. The verified fio job overwrites the volume, so it runs
## only when this call has made the volume.
##
##   ./dev up
##   ./dev up --port 7800
##   ./dev up --single
##   ./dev up --etcd
##   RAWSTOR_STATE=/mnt/fast/rawstor ./dev up --size 20G

source .dev.d/daemons.sh

single=
etcd=
port=
size=
while (($#)); do
    case $1 in
        --single)
            single=yes
            shift
            continue
            ;;
        --etcd)
            etcd=yes
            shift
            continue
            ;;
        --port | --size) (($# > 1)) || usage "the value of $1 is missing" ;;
    esac
    case $1 in
        --port) port=$2 ;;
        --size) size=$2 ;;
        *) usage "unknown option '$1'" ;;
    esac
    shift 2
done
[[ -z $single || -z $etcd ]] || usage "--single is one OST without metadata servers, --etcd is three of them; choose one"
# What is there goes on as it was made.
if [[ -z $single && -s $etcd_address ]]; then etcd=yes; fi
if [[ -n $etcd && -e $state/mdt.db ]]; then
    die "the cluster in $state has its catalogue in a file; remove it with ./dev down --purge, or use another folder and port: RAWSTOR_STATE=/tmp/rawstor ./dev up --etcd --port 7800"
fi
if [[ -n $single ]]; then
    wanted=(ost) others=("${shared_daemons[@]}") port_file=$single_port port_default=7710 ports=2 size=${size:-2G}
elif [[ -n $etcd ]]; then
    wanted=("${shared_daemons[@]}") others=(ost) port_file=$cluster_port port_default=7700 ports=22 size=${size:-1G}
else
    wanted=("${cluster_daemons[@]}") others=(ost) port_file=$cluster_port port_default=7700 ports=16 size=${size:-1G}
fi
port_max=$((65536 - ports))
if [[ -n $port ]]; then
    [[ $port =~ ^[1-9][0-9]{0,4}$ ]] && ((port <= port_max)) || usage "'$port' is no port: a number from 1 to $port_max is expected"
fi
[[ $size =~ ^([1-9][0-9]*)([KMGT])$ ]] || usage "'$size' is no size: a number with K, M, G or T is expected, such as 20G"
store_size=$((2 * BASH_REMATCH[1]))${BASH_REMATCH[2]}
again="./dev up${single:+ --single}${etcd:+ --etcd}"

need_swift
need_packages "${packages_build[@]}" ${etcd:+etcd-server} fio
need_kernel
if [[ -z $single ]]; then need_product rawstor-mdt; need_product rawstor-mgs; fi
need_product rawstor-ost
need_product rawstor

mkdir -p "$state"
# Two calls at the same moment must not both find nothing running. The daemons do not inherit the lock.
exec 9>"$state/up.lock"
flock -w 600 9 || die "another './dev up' has been at work in $state for ten minutes; stop that one first"

# They would want the same ports, and nobody could tell which vm1 is meant.
if any_runs "${others[@]}"; then
    if [[ -n $single ]]; then what="the cluster of ./dev up"; else what="the single OST of ./dev up --single"; fi
    die "$what is running in $state; stop it first with ./dev down (its data stays), or use another folder and port: RAWSTOR_STATE=/tmp/rawstor $again --port $((port_default + 100))"
fi

# sun_path has 108 bytes with its end.
[[ -z $single ]] || ((${#socket} <= 107)) ||
    die "the path $socket is too long for a Unix socket; choose a shorter folder: RAWSTOR_STATE=/tmp/rawstor ./dev up --single"

if [[ -z $single ]]; then build_release rawstor-mdt rawstor-mgs; fi
build_release rawstor-ost rawstor
programs=$(release_folder)
rawstor=$programs/rawstor

# What runs keeps its port; what was killed without ./dev down comes back where it was, unless another port is asked for.
before=
if [[ -s $port_file ]]; then before=$(<"$port_file"); fi
if any_runs "${wanted[@]}"; then
    if [[ -n $port && $port != "$before" ]]; then say "what is running keeps its port $before; to change it: ./dev down, then $again --port $port"; fi
    port=$before
elif [[ -z $port && -z $single ]]; then
    port=$before
fi
# The servers of etcd know each other by their ports, from the first start on.
if [[ -n $etcd && -s $etcd_address ]]; then
    before=$(($(sed 's/^[^,]*:\([0-9]*\),.*/\1/' "$etcd_address") - 16))
    if [[ -n $port && $port != "$before" ]]; then say "etcd in $state keeps its ports, and all else too: $before; to change them: ./dev down --purge"; fi
    port=$before
fi
port=${port:-$port_default}

# The metrics are on the next one.
port_of() {
    case $1 in
        ost | mdt) echo "$port" ;;
        mgs) echo $((port + 6)) ;;
        mdt*) echo $((port - 2 + 2 * ${1#mdt})) ;;
        etcd*) echo $((port + 15 + ${1#etcd})) ;;
        *) echo $((port + 8 + 2 * ${1#ost})) ;;
    esac
}
# The other one that it takes: metrics, or where the servers of etcd talk to each other.
second_port_of() { if [[ $1 == etcd* ]]; then echo $(($(port_of "$1") + 3)); else echo $(($(port_of "$1") + 1)); fi; }
# Where clients enter the cluster.
entry() { echo "rawstor://127.0.0.1:$(port_of mgs)"; }

# Tells that nobody listens there, without taking a port that is merely winding down for taken: the kernel ends what a killed daemon had
# under way a moment after it is gone.
port_is_free() {
    python3 - "$1" <<'PYTHON'
import socket, sys, time
for attempt in range(50):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        s.bind(("127.0.0.1", int(sys.argv[1])))
        sys.exit(0)
    except OSError:
        s.close()
        time.sleep(0.05)
sys.exit(1)
PYTHON
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The last lines of the logs of the daemons named.
show_logs() {
    local name
    for name in "$@"; do
        echo "-- $(log_of "$name")" >&2
        tail -n 20 "$(log_of "$name")" >&2 || true
    done
}

# What starts a daemon, in the array `command`.
command_of() {
    local name=$1 at metrics other peers= kept
    shift
    kept=$(kept_of "$name")
    at=$(port_of "$name")
    metrics=$(second_port_of "$name")
    if [[ $name != etcd* ]]; then
        # Split on purpose: nothing where nothing is kept.
        command=("$programs/$(program_of "$name")" serve ${kept:+"$kept"} --listen "127.0.0.1:$at" --metrics "127.0.0.1:$metrics" "$@")
        return
    fi
    for other in "${etcd_daemons[@]}"; do peers+=${peers:+,}$other=http://127.0.0.1:$(second_port_of "$other"); done
    command=(etcd --data-dir "$(kept_of "$name")" --name "$name" --listen-client-urls "http://127.0.0.1:$at"
        --advertise-client-urls "http://127.0.0.1:$at" --listen-peer-urls "http://127.0.0.1:$metrics"
        --initial-advertise-peer-urls "http://127.0.0.1:$metrics" --initial-cluster "$peers"
        --auto-compaction-mode periodic --auto-compaction-retention 1h)
}

# start NAME OPTION…: serves what is there under that name, and waits until it listens.
start() {
    local name=$1 at log pid tenths
    shift
    at=$(port_of "$name")
    log=$(log_of "$name")
    command_of "$name" "$@"
    # A session of its own, so that Ctrl-C here does not reach it.
    setsid "${command[@]}" >>"$log" 2>&1 </dev/null 9>&- &
    pid=$!
    echo "$pid" >"$(pid_file_of "$name")"
    for ((tenths = 0; tenths < 300; tenths++)); do
        # A zombie of ours still has its number: the state tells.
        if [[ ! -e /proc/$pid || $(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) == [ZX] ]]; then
            rm -f "$(pid_file_of "$name")"
            show_logs "$name"
            die "$(called "$name") ended at once; the last lines of its log are above. What else was started runs on: ./dev down stops it"
        fi
        if listens "$at" && { [[ $name != ost ]] || [[ -S $socket ]]; }; then
            say "started $(called "$name") (pid $pid)"
            return 0
        fi
        sleep 0.1
    done
    die "$(called "$name") (pid $pid) does not listen on 127.0.0.1:$at after 30 s; its log is $log; stop it with: ./dev down"
}

# make NAME OPTION…: the store or catalogue of that daemon, unless it is there.
make() {
    local name=$1 kept
    shift
    kept=$(kept_of "$name")
    [[ -e $kept ]] || "$programs/$(program_of "$name")" init "$kept" "$@" >&2 ||
        die "making $kept failed; the reason is above. If it is the space: choose a smaller volume with --size, or another folder with RAWSTOR_STATE. ./dev down stops what was started"
}

# make_shared: the catalogue in etcd, unless it is there. It takes a moment until etcd has found itself.
make_shared() {
    local tenths answer
    for ((tenths = 0; tenths < 300; tenths++)); do
        answer=$("$programs/rawstor-mdt" info "$(kept_of mdt)" 2>&1) && return 0
        answer=$("$programs/rawstor-mdt" init "$(kept_of mdt)" 2>&1) && say "$answer" && return 0
        sleep 0.1
    done
    die "no catalogue can be made in etcd: $answer; its logs are $state/etcd{1,2,3}.log. ./dev down stops what was started"
}

# Where the catalogue is, once it is made.
catalogue=$(kept_of mdt)
if [[ -n $etcd ]]; then catalogue=$(kept_of etcd1); fi
# The catalogue is made before the first store: a new one would refuse them, and without the old one their volumes are lost.
if [[ -z $single && ! -e $catalogue ]]; then
    for name in ost1 ost2 ost3; do
        [[ ! -e $(kept_of "$name") ]] ||
            die "the catalogue $catalogue is gone, and $(kept_of "$name") belongs to its cluster; put it back, or begin anew with ./dev down --purge"
    done
fi

missing=()
for name in "${wanted[@]}"; do
    if pid=$(daemon_pid "$name"); then say "$(called "$name") is running already (pid $pid)"; else missing+=("$name"); fi
done
# All of them before the first is started, so that none is left behind alone.
for name in "${missing[@]}"; do
    at=$(port_of "$name")
    for p in "$at" "$(second_port_of "$name")"; do
        port_is_free "$p" || {
            other="choose another: $again --port $((port + 100 <= port_max ? port + 100 : port_default))"
            if any_runs "${wanted[@]}"; then other="./dev down, then $other"; fi
            die "port $p of 127.0.0.1, which is for $(called "$name"), is in use by another program; $other"
        }
    done
done
echo "$port" >"$port_file"
if [[ -n $etcd ]]; then echo "etcd://127.0.0.1:$((port + 16)),127.0.0.1:$((port + 17)),127.0.0.1:$((port + 18))" >"$etcd_address"; fi

# Prints what is at a key of `rawstor status`.
status_of_cluster() {
    local answer
    # 8: the cluster is degraded, as one is whose OSTs are just being started.
    answer=$("$rawstor" status --json "rawstor://127.0.0.1:$port") || (($? == 8)) || return 1
    python3 -c 'import json, sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$answer" "$1"
}

# Prints those OSTs that the metadata server does not know to be up where they are now.
not_registered() {
    local answer name addresses=()
    for name in ost1 ost2 ost3; do addresses+=("127.0.0.1:$(port_of "$name")=$name"); done
    answer=$("$rawstor" ost ls --json --timeout 5 "rawstor://127.0.0.1:$port" 2>/dev/null) || answer='{"osts": []}'
    python3 - "$answer" "${addresses[@]}" <<'PYTHON'
import json, sys
up = {a for ost in json.loads(sys.argv[1])["osts"] if ost["state"] != "away" for a in ost["addresses"]}
print(*(name for address, name in (w.split("=") for w in sys.argv[2:]) if address not in up))
PYTHON
}

for name in "${missing[@]}"; do
    case $name in
        ost)
            make ost --size "$store_size"
            rm -f "$socket"
            start ost --listen-unix "$socket"
            ;;
        etcd* | mgs) start "$name" ;;
        mdt*)
            if [[ -n $etcd ]]; then make_shared; else make mdt; fi
            start "$name" --mgs "127.0.0.1:$(port_of mgs)"
            ;;
        *)
            if [[ ! -e $(kept_of "$name") ]]; then
                id=$(status_of_cluster cluster) || die "the metadata server does not tell its cluster; its log is $(log_of mdt)"
                make "$name" --size "$store_size" --cluster "$id"
            fi
            start "$name" --mgs "127.0.0.1:$(port_of mgs)" --domain "room/rack/host${name#ost}"
            ;;
    esac
done

if [[ -z $single ]]; then
    register_seconds_max=60
    deadline=$((SECONDS + register_seconds_max))
    while absent=$(not_registered) && [[ -n $absent ]]; do
        if ((SECONDS >= deadline)); then
            # Split on purpose.
            show_logs mgs mdt $absent
            die "not registered at the metadata server after $register_seconds_max s: $absent; the logs above tell why. ./dev down stops all of it; ./dev down --purge also removes the data, for a fresh start"
        fi
        sleep 0.2
    done
    url=$(entry)/vm1
    create=(--replicas 2)
else
    url=ost://127.0.0.1:$port/vm1
    create=()
fi

logs=$(for name in "${wanted[@]}"; do log_of "$name"; done | paste -sd ' ')
made=
status=0
answer=$("$rawstor" volume info "$url" 2>&1) || status=$?
case $status in
    0) ;;
    4)
        "$rawstor" volume create "${create[@]}" --size "$size" "$url" >&2 || die "making the volume $url failed; the reason is above, the logs are $logs"
        made=yes
        ;;
    *) die "$url cannot be looked at: $answer; the logs are $logs" ;;
esac

# Every block that is written is read back and compared.
verified_job() {
    local result=$state/fio.json seconds_max=900
    timeout --kill-after=10 "$seconds_max" fio --name=verified --ioengine="external:$fio_engine" --thread=1 --verify_state_save=0 \
        --url="$url" --rw=randwrite --bs=4k --iodepth=32 --size=256M --verify=crc32c --verify_fatal=1 --do_verify=1 \
        --output-format=json --output="$result" >&2 || {
        cat "$result" >&2
        die "the verified fio job on $url failed, or took more than $seconds_max s; its report is above and in $result, the logs are $logs"
    }
    python3 - "$result" <<'PYTHON'
import json, sys
text = open(sys.argv[1]).read()
job = json.loads(text[text.index("{"):])["jobs"][0]
# Less than was asked for on a volume that is smaller.
print(f"{job['write']['io_bytes'] >> 20} MiB written at random and read back, all of it as written:")
for kind in ("write", "read"):
    side = job[kind]
    print(f"  {kind:5} 4 KiB, depth 32: {side['iops']:9.0f} IOPS  {side['bw_bytes'] / 1e6:7.1f} MB/s  mean {side['clat_ns']['mean'] / 1e3:6.0f} us")
PYTHON
}

if ! fio_available; then
    say "the fio engine (patches/fio/build) is not built yet: the volume has not been checked"
elif [[ -n $made ]]; then
    build_fio
    verified_job
else
    say "the volume vm1 was there before; it is not overwritten with a test"
fi

others_text="mgs.pid is the management server, mdt.pid the metadata server, ost2.pid and ost3.pid the others"
server_metrics="$((port + 7)) (management server), $((port + 1)) (metadata server)"
if [[ -n $etcd ]]; then
    others_text="mgs.pid is the management server, mdt.pid, mdt2.pid and mdt3.pid are the metadata servers, etcd1.pid to etcd3.pid etcd"
    server_metrics="$((port + 7)) (management server), $((port + 1)), $((port + 3)), $((port + 5)) (metadata servers)"
fi
if [[ -n $single ]]; then
    cat <<TEXT

The volume is  $url
or             ost+unix:///vm1?socket=$socket
metrics        http://127.0.0.1:$((port + 1))/metrics
the OST's log  $(log_of ost)
TEXT
else
    cat <<TEXT

The volume is  $url
               two replicas, on different OSTs of the three
look           $rawstor status $(entry)
work           fio --name=work --ioengine=external:$fio_engine --thread=1 --url=$url \\
                   --rw=randrw --bs=4k --iodepth=8 --size=256M --time_based --runtime=60     (this overwrites vm1)
break          kill -9 \$(cat $(printf %q "$(pid_file_of ost1)"))
               The work goes on; ./dev up starts the OST again, and the work, or rawstor volume recover $url,
               brings its copies up to date. $others_text
metrics        http://127.0.0.1:PORT/metrics, PORT $server_metrics, $((port + 11)), $((port + 13)), $((port + 15)) (OSTs)
logs           $state/{$(IFS=,; echo "${wanted[*]}")}.log
TEXT
fi
cat <<TEXT

Stop it with ./dev down; the data stays in $state. Stop it and remove the data with ./dev down --purge.
TEXT
