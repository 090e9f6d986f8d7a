## copies programs, library, header, pkg-config file and manual pages
##
## usage: ./dev install [--prefix P]
##        ./dev install --uninstall [--prefix P]
##
##   --prefix P    where to (default /usr/local)
##   --uninstall   removes what an installation to that prefix has copied
##
## With DESTDIR set everything is put below that folder, for a package; the prefix in rawstor.pc stays as given.
##
##   ./dev install
##   ./dev install --prefix "$HOME/.local"
##   DESTDIR=/tmp/package ./dev install --prefix /usr
##   ./dev install --uninstall

prefix=/usr/local
uninstall=
while (($#)); do
    case $1 in
        --prefix)
            (($# > 1)) || usage "--prefix needs a folder"
            prefix=$2
            shift
            ;;
        --prefix=*) prefix=${1#*=} ;;
        --uninstall) uninstall=yes ;;
        *) usage "unknown option '$1'" ;;
    esac
    shift
done
[[ $prefix = /* ]] || prefix=$caller/$prefix
target=${DESTDIR:-}$prefix

# What an installation consists of, for `--uninstall` as well.
programs=(rawstor rawstor-ost rawstor-mdt rawstor-mgs)
library=librawstor.so
library_version=1.0.0
library_major=${library_version%%.*}
manuals=(docs/man/*.[1-8])

if [[ -n $uninstall ]]; then
    for program in "${programs[@]}"; do rm -f "$target/bin/$program"; done
    rm -f "$target/lib/$library" "$target/lib/$library.$library_major" "$target/lib/$library.$library_version"
    rm -f "$target/include/rawstor.h" "$target/lib/pkgconfig/rawstor.pc"
    for manual in "${manuals[@]}"; do rm -f "$target/share/man/man${manual##*.}/$(basename "$manual")"; done
    say "removed rawstor from $target"
    exit 0
fi

need_swift
need_packages "${packages_build[@]}"
# All or nothing: half an installation is found out much later.
for program in "${programs[@]}"; do need_product "$program"; done
need_product LibRawstor
mkdir -p "$target" 2>/dev/null && [[ -w $target ]] ||
    die "$target cannot be written to; install as root, or elsewhere: ./dev install --prefix \"\$HOME/.local\""

build_release "${programs[@]}" LibRawstor
built=$(release_folder)

for program in "${programs[@]}"; do install -D -m 755 "$built/$program" "$target/bin/$program"; done
.dev.d/stage-library "$built/libLibRawstor.so" "$target" "$prefix"
for manual in "${manuals[@]}"; do
    if [[ -f $manual ]]; then install -D -m 644 "$manual" "$target/share/man/man${manual##*.}/$(basename "$manual")"; fi
done

# The loader finds the library in these places by its cache.
if [[ -z ${DESTDIR:-} && $EUID == 0 && $prefix =~ ^/usr(/local)?$ ]]; then ldconfig; fi
say "installed rawstor to $target"
