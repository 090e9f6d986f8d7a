# What the verbs share: messages, what the machine must have, builds, and steps that are counted. Sourced by `dev`, with `root` as the
# working folder and `caller` the one that ./dev was called from; never run by itself.

say() { echo "dev: $*" >&2; }

die() {
    say "$*"
    exit 1
}

# A mistake on the command line, as opposed to something that went wrong.
usage() {
    say "$*; see ./dev $verb --help"
    exit 2
}

# Where `up` keeps the store, logs and pid file, and the other verbs what they leave behind.
state=${RAWSTOR_STATE:-$root/.dev}
[[ $state = /* ]] || state=$caller/$state

# What the machine must have

# True when version $1 is at least version $2, both `major.minor`.
at_least() {
    local have=(${1//./ }) want=(${2//./ })
    ((have[0] > want[0] || (have[0] == want[0] && ${have[1]:-0} >= ${want[1]:-0})))
}

# The package says which tools it needs; saying it a second time here would go stale.
need_swift() {
    local want have
    want=$(sed -n '1s|^// swift-tools-version: *||p' Package.swift)
    command -v swift >/dev/null ||
        die "no 'swift' on the PATH; install a Swift toolchain, $want or newer, from https://www.swift.org/install/linux and put its usr/bin on the PATH"
    have=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
    [[ -n $have ]] || die "'swift --version' does not tell a version; reinstall the toolchain ($(command -v swift))"
    at_least "$have" "$want" ||
        die "Swift $have ($(command -v swift)) is too old, $want or newer is needed; get one from https://www.swift.org/install/linux and put its usr/bin first on the PATH"
}

# 0: everybody may use io_uring, 1: only administrators, 2: nobody. Kernels before 6.6 have no such switch.
io_uring_switch() { cat /proc/sys/kernel/io_uring_disabled 2>/dev/null || echo 0; }

# Only for verbs that talk to the kernel: the simulator runs anywhere.
need_kernel() {
    local release disabled
    release=$(uname -r)
    [[ $release =~ ^([0-9]+\.[0-9]+) ]] || die "cannot read the kernel's version from '$release'; Linux 6.1 or newer is needed"
    at_least "${BASH_REMATCH[1]}" 6.1 || die "Linux $release is too old: 6.1, the kernel of Debian 12, is the oldest that works; boot a newer one"
    disabled=$(io_uring_switch)
    if ((disabled == 2 || (disabled == 1 && EUID != 0))); then
        die "io_uring is switched off here (kernel.io_uring_disabled is $disabled); an administrator turns it on with: sysctl -w kernel.io_uring_disabled=0"
    fi
    # A container's system call filter answers EPERM or ENOSYS; a kernel that has io_uring complains about the null argument.
    python3 - <<'PYTHON' || die "io_uring is blocked for this process, most likely by a container's seccomp profile; allow io_uring_setup, io_uring_enter and io_uring_register in it"
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall(425, 1, None)
sys.exit(ctypes.get_errno() in (errno.EPERM, errno.ENOSYS))
PYTHON
}

# What building needs, then what running the tests needs besides.
packages_build=(liburing-dev libisal-dev libssl-dev libsqlite3-dev libcurl4-openssl-dev gcc make pkg-config python3)
packages_test=(etcd-server etcd-client fio qemu-utils qemu-system-common valgrind xfsprogs)
# Installed only when somebody asks for it: some eighty packages with what they need, and nothing of ours needs them.
packages_ceph=(ceph-mon ceph-osd ceph-common)

# Installs those of the named packages that are missing; on other distributions says what is.
need_packages() {
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        need_without_apt
        return
    fi
    local package missing=()
    for package in "$@"; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    ((${#missing[@]})) || return 0

    local become=()
    if ((EUID != 0)); then
        # Asks for a password only where somebody can type one.
        if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
            become=(sudo)
        else
            die "these packages are missing: ${missing[*]}; install them as root with: apt-get install ${missing[*]}"
        fi
    fi
    local apt=("${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120)
    say "installing from the distribution: ${missing[*]}"
    mkdir -p "$state"
    # A fresh machine has no package lists and one that was set up long ago has stale ones: both show as a failure, cured by an update.
    if ! "${apt[@]}" install --no-install-recommends "${missing[@]}" >"$state/apt.log" 2>&1; then
        if ! { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } >>"$state/apt.log" 2>&1; then
            tail -n 15 "$state/apt.log" >&2
            die "apt-get could not install ${missing[*]}; put it right as the lines above say ($state/apt.log has all of them) and try again"
        fi
    fi
}

need_without_apt() {
    local command library missing=()
    for command in gcc make pkg-config python3; do command -v "$command" >/dev/null || missing+=("$command"); done
    for library in liburing libisal openssl sqlite3 libcurl; do pkg-config --exists "$library" 2>/dev/null || missing+=("$library (with its headers)"); done
    ((${#missing[@]} == 0)) ||
        die "this is not Debian, so nothing is installed by itself. Missing: $(printf '%s, ' "${missing[@]}" | sed 's/, $//'). All that is needed: gcc, make, pkg-config, python3, and liburing 2.3, ISA-L 2.30, OpenSSL 3, SQLite 3.37 and libcurl 7.85 with their headers; for the tests etcd 3.4, fio, qemu-img, qemu-nbd, qemu-storage-daemon, mkfs.xfs and valgrind as well"
}

# Building

# True when the package has an executable or library target of this name. Most of what the verbs drive is still to be written.
has_product() { grep -Eq "\"$1\"" Package.swift; }

need_product() {
    has_product "$1" || die "$1 is not part of the package yet, so there is nothing for './dev $verb' to run"
}

# Shipped programs carry the Swift runtime in themselves: storage nodes need no Swift.
release_flags=(-c release --static-swift-stdlib)

# Builds the products named, in release mode. Standard output stays the caller's.
build_release() {
    local product
    for product in "$@"; do
        swift build "${release_flags[@]}" --product "$product" >&2 || die "building $product failed; the compiler's messages are above"
    done
}

release_folder() { swift build "${release_flags[@]}" --show-bin-path; }

# Steps: each is run whatever became of the one before, counted, and named again at the end if it failed.

passed=0
failed=0
report=()
# A step that knows how many tests it ran writes "PASSED FAILED" here; otherwise it counts as one.
counts=$(mktemp)
trap 'rm -f "$counts"' EXIT

# step NAME COMMAND…
step() {
    local name=$1 status=0 begin=$SECONDS p f
    shift
    echo
    echo "== $name"
    : >"$counts"
    "$@" || status=$?
    read -r p f <"$counts" || { p=$((status == 0)) f=$((status != 0)); }
    # Neither a crash in the middle nor a count that claims otherwise makes a failed step good.
    if ((status != 0 && f == 0)); then f=1; fi
    passed=$((passed + p))
    failed=$((failed + f))
    report+=("$(printf '%-6s %5d s  %6d passed %4d failed  %s' "$( ((f == 0)) && echo ok || echo FAILED)" $((SECONDS - begin)) "$p" "$f" "$name")")
}

# Prints the table and the closing line, and ends the script.
finish() {
    echo
    printf '%s\n' "${report[@]}"
    echo
    echo "$passed passed, $failed failed"
    exit $((failed > 0))
}

# swift_tests [PATTERN]: a step. Reads how many tests ran from the report, since the exit status only tells whether all went well. A
# pattern that matches nothing is a typing error and not a success.
swift_tests() {
    local filter=${1:-} status=0 xml=.build/tests.xml
    rm -f "$xml"
    # One after the other: mutants are switched on for the whole process.
    swift test --skip-build --no-parallel --disable-xctest --xunit-output "$xml" ${filter:+--filter "$filter"} || status=$?
    if [[ -s $xml ]]; then
        python3 .dev.d/count.py "$xml" >"$counts" || status=1
    else
        say "the tests ended without a report: the process crashed, or did not start"
        status=1
    fi
    if ((status == 0)) && [[ $(<"$counts") == "0 0" ]]; then
        say "no test matches '$filter'"
        status=1
    fi
    return $status
}

# The fio engine. patches/fio/build gets one argument, the folder to work in, and leaves the external engine there as rawstor.so; what it
# finds up to date it does not build again.
fio_engine=$root/.build/fio/rawstor.so
fio_available() { [[ -x patches/fio/build ]]; }
build_fio() {
    patches/fio/build "$root/.build/fio" >&2 || die "building the fio engine failed; the messages are above"
    [[ -f $fio_engine ]] || die "patches/fio/build left no $fio_engine"
}
