## measures rawstor, alone and replicated, beside the raw disk, loopback, qemu-nbd and Ceph
##
## usage: ./dev bench [--quick] [--ceph] [--systems LIST] [--jobs LIST] [--json FILE]
##
##   --quick          shorter runs, for a first look; the figures are not to be quoted
##   --ceph           installs Ceph from the distribution first. Without it Ceph is measured where it is installed already
##   --systems LIST   only these of raw, loopback, qemu-nbd, ost, r2, r3, ceph-r2, separated by commas
##   --jobs LIST      only these jobs (docs/performance.md has their names), separated by commas
##   --json FILE      writes one row a line there
##
## A cluster of Ceph's is made in the folder of the bench, for as long as it runs; one that the machine has is not touched. What cannot be
## started is left out, and a note below the table says why. All of it takes three quarters of an hour and 31 GiB of disk, with --quick
## five minutes and 13 GiB.
##
##   ./dev bench
##   ./dev bench --quick --json bench.json
##   ./dev bench --ceph --systems r2,ceph-r2 --jobs randwrite-4k-qd1,randwrite-4k-qd32

[[ -x bench/run ]] || die "the bench (bench/run) is not built yet, so there is nothing to measure"
need_swift
need_packages "${packages_build[@]}" "${packages_test[@]}"
need_kernel
arguments=()
for argument in "$@"; do
    if [[ $argument != --ceph ]]; then
        arguments+=("$argument")
    elif ! (need_packages "${packages_ceph[@]}"); then
        say "without Ceph the rest is measured"
    fi
done
build_release rawstor-ost rawstor-mdt rawstor
build_fio
binaries=$(release_folder)
mkdir -p "$state"
cd "$caller"
exec "$root/bench/run" --bin "$binaries" --engine "$fio_engine" --folder "$state" "${arguments[@]}"
