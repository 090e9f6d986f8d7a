## measures rawstor beside the raw disk, loopback and qemu-nbd
##
## usage: ./dev bench [--quick] [--json FILE]
##
##   --quick       shorter runs, for a first look; the figures are not to be quoted
##   --json FILE   writes one row a line there
##
##   ./dev bench
##   ./dev bench --quick --json bench.json

[[ -x bench/run ]] || die "the bench (bench/run) is not built yet, so there is nothing to measure"
need_swift
need_packages "${packages_build[@]}" "${packages_test[@]}"
need_kernel
build_release rawstor-ost rawstor
build_fio
binaries=$(release_folder)
mkdir -p "$state"
cd "$caller"
exec "$root/bench/run" --bin "$binaries" --engine "$fio_engine" --folder "$state" "$@"
