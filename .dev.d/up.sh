## builds, starts an OST on a file, makes a volume and checks it with fio
##
## usage: ./dev up [--port N] [--size S]
##
##   --port N   the OST listens on 127.0.0.1:N (default 7710); its metrics are on N+1
##   --size S   size of the volume vm1 (default 2G); the store gets twice as much
##
## Installs what is missing from the distribution. Store, log and pid file are in .dev, or in the folder that RAWSTOR_STATE names. Leaves
## the OST running; run twice, it does not start twice. The verified fio job overwrites the volume, so it runs only when this call has
## made the volume.
##
##   ./dev up
##   ./dev up --port 7800
##   RAWSTOR_STATE=/mnt/fast/rawstor ./dev up --size 20G

source .dev.d/ost.sh

port=7710
size=2G
while (($#)); do
    (($# > 1)) || usage "unknown option '$1', or its value is missing"
    case $1 in
        --port) port=$2 ;;
        --size) size=$2 ;;
        *) usage "unknown option '$1'" ;;
    esac
    shift 2
done
[[ $port =~ ^[0-9]{1,5}$ ]] && ((port >= 1 && port <= 65534)) || usage "'$port' is no port: a number from 1 to 65534 is expected"
[[ $size =~ ^([1-9][0-9]*)([KMGT])$ ]] || usage "'$size' is no size: a number with K, M, G or T is expected, such as 20G"
store_size=$((2 * BASH_REMATCH[1]))${BASH_REMATCH[2]}

need_swift
need_packages "${packages_build[@]}" fio
need_kernel
need_product rawstor-ost
need_product rawstor

mkdir -p "$state"
# Two calls at the same moment must not both find nothing running. The OST does not inherit the lock.
exec 9>"$state/up.lock"
flock -w 600 9 || die "another './dev up' has been at work in $state for ten minutes; stop that one first"

socket=$store.sock
# sun_path has 108 bytes with its end.
((${#socket} <= 107)) || die "the path $socket is too long for a Unix socket; choose a shorter folder: RAWSTOR_STATE=/tmp/rawstor ./dev up"

build_release rawstor-ost rawstor
programs=$(release_folder)

# Tells that nobody listens there, without taking a port that is merely winding down for taken.
port_is_free() {
    python3 - "$1" <<'PYTHON'
import socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    s.bind(("127.0.0.1", int(sys.argv[1])))
except OSError:
    sys.exit(1)
PYTHON
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

start() {
    local p
    for p in "$port" "$((port + 1))"; do
        port_is_free "$p" || die "port $p of 127.0.0.1 is in use by another program; choose another: ./dev up --port $((port + 100))"
    done
    [[ -e $store ]] || "$programs/rawstor-ost" init "$store" --size "$store_size" ||
        die "making the store $store failed; the reason is above"
    rm -f "$socket"
    echo "$port" >"$state/port"
    # A session of its own, so that Ctrl-C here does not reach it.
    setsid "$programs/rawstor-ost" serve "$store" --listen "127.0.0.1:$port" --listen-unix "$socket" \
        --metrics "127.0.0.1:$((port + 1))" >>"$ost_log" 2>&1 </dev/null 9>&- &
    local pid=$! tenths
    echo "$pid" >"$pid_file"
    for ((tenths = 0; tenths < 300; tenths++)); do
        # A zombie of ours still has its number: the state tells.
        if [[ ! -e /proc/$pid || $(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null) == [ZX] ]]; then
            rm -f "$pid_file"
            tail -n 20 "$ost_log" >&2
            die "the OST ended at once; the last lines of its log ($ost_log) are above"
        fi
        if [[ -S $socket ]] && listens "$port"; then return 0; fi
        sleep 0.1
    done
    die "the OST (pid $pid) does not listen on 127.0.0.1:$port and $socket after 30 s; its log is $ost_log; stop it with: ./dev down"
}

if pid=$(ost_pid); then
    if [[ $(<"$state/port") != "$port" ]]; then say "keeps its port $(<"$state/port"); to change it: ./dev down, then ./dev up --port $port"; fi
    port=$(<"$state/port")
    say "the OST is running already (pid $pid)"
else
    start
    say "started the OST (pid $(<"$pid_file"))"
fi

url=ost://127.0.0.1:$port/vm1
made=
if ! "$programs/rawstor" volume info "$url" >/dev/null 2>&1; then
    "$programs/rawstor" volume create --size "$size" "$url" || die "making the volume $url failed; the OST's log is $ost_log"
    made=yes
fi

# Every block that is written is read back and compared.
verified_job() {
    local result=$state/fio.json
    fio --name=verified --ioengine="external:$fio_engine" --thread=1 --verify_state_save=0 --url="$url" --rw=randwrite --bs=4k --iodepth=32 \
        --size=256M --verify=crc32c --verify_fatal=1 --do_verify=1 --output-format=json --output="$result" >&2 || {
        cat "$result" >&2
        die "the verified fio job on $url failed; its report is above and in $result, the OST's log is $ost_log"
    }
    python3 - "$result" <<'PYTHON'
import json, sys
text = open(sys.argv[1]).read()
job = json.loads(text[text.index("{"):])["jobs"][0]
for kind in ("write", "read"):
    side = job[kind]
    print(f"  {kind:5} 4 KiB, depth 32: {side['iops']:9.0f} IOPS  {side['bw_bytes'] / 1e6:7.1f} MB/s  mean {side['clat_ns']['mean'] / 1e3:6.0f} us")
PYTHON
}

if ! fio_available; then
    say "the fio engine (patches/fio/build) is not built yet: the volume has not been checked"
elif [[ -n $made ]]; then
    build_fio
    echo "256 MiB written at random and read back, all of it as written:"
    verified_job
else
    say "the volume vm1 was there before; it is not overwritten with a test"
fi

cat <<TEXT

The volume is  $url
or             ost+unix:///vm1?socket=$socket
metrics        http://127.0.0.1:$((port + 1))/metrics
the OST's log  $ost_log

Stop it with ./dev down; the data stays in $state. Stop it and remove the data with ./dev down --purge.
TEXT
