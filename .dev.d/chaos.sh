## breaks a cluster of real daemons while a writer checks every read
##
## usage: ./dev chaos [--scenario NAME]… [--rounds N] [--seconds N] [--seed N] [--replicas N]
##                    [--volume SIZE] [--rate N] [--json FILE] [--keep FOLDER]
##        ./dev chaos --self-test
##
##   --scenario NAME   only this one; several may be named. An unknown name lists them
##   --rounds N        how often the fault happens, 5 by default
##   --seconds N       how long it lasts; by default what the scenario says, 10 to 60
##   --seed N          repeats the choices of a run, not its timing
##   --replicas N      copies of each block, on three OSTs; 2 by default
##   --volume SIZE     of the volume, 512M by default; all of it is filled, and an eighth is worked on
##   --rate N          operations in a second; 1000 by default, 0 for as many as go
##   --json FILE       appends a row for each scenario
##   --keep FOLDER     keeps logs and journals of scenarios that broke something
##   --self-test       shows that each check fires
##
## Each OST, the metadata server, the management server and each client is a process of the release programs in a network namespace of its
## own; for kill-etcd and cut-machine so are three metadata servers and the etcd that they share. A writer at depth 16 works and checks;
## OSTs are killed, paused, cut off, filled, rolled back. Prints a row of JSON for each scenario; the exit code is 0 when nothing was lost,
## stale or wrong, members are equal block by block, no operation took too long, and no more was copied than had changed. Needs root. All of
## it takes about forty-five minutes.
##
##   ./dev chaos
##   ./dev chaos --scenario kill-ost --scenario cut-ost --rounds 20
##   ./dev chaos --seed 7 --json chaos.json --keep broken

((EUID == 0)) || die "only root can make network namespaces; run it as root: sudo ./dev chaos"
need_swift
need_packages "${packages_build[@]}" iproute2 nftables etcd-server
need_kernel
build_release rawstor rawstor-ost rawstor-mdt rawstor-mgs LibRawstor
built=$(release_folder)
staged=$state/chaos/programs
.dev.d/stage-library "$built/libLibRawstor.so" "$staged"
for program in rawstor rawstor-ost rawstor-mdt rawstor-mgs; do install -m 755 "$built/$program" "$staged/$program"; done
gcc -std=gnu11 -O2 -Wall -Wextra -Werror -I"$staged/include" -o "$staged/writer" Tests/Chaos/writer.c Tests/PowerLoss/history.c \
    -L"$staged/lib" -lrawstor || die "the writer does not build; the compiler's messages are above"
cd "$caller"
exec python3 "$root/Tests/Chaos/chaos.py" --programs "$staged" --folder "$state/chaos" "$@"
