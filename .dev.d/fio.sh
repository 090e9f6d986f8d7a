## builds the fio engine from Debian's fio source
##
## usage: ./dev fio
##
## Leaves the external engine at .build/fio/rawstor.so, which Debian's own fio loads, and prints how to use it.
##
##   ./dev fio
##   fio --ioengine=external:.build/fio/rawstor.so --thread=1 --url=rawstor://127.0.0.1:7700/vm1 --name=try --rw=randread --bs=4k

(($# == 0)) || usage "unknown option '$1'"
fio_available || die "the fio engine (patches/fio/build) is not built yet"
need_swift
need_packages "${packages_build[@]}" fio
build_fio
echo "$fio_engine"
say "use it with: fio --ioengine=external:$fio_engine --thread=1 --url=URL …"
