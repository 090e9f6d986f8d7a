## runs every test: Swift, C, scripts, and the commands in the docs
##
## usage: ./dev test [--filter PATTERN]
##
##   --filter PATTERN   only the Swift tests whose name matches this regular expression
##
## Installs what is missing from the distribution. Ends with a line "N passed, N failed"; the exit code is 0 when none failed.
##
##   ./dev test
##   ./dev test --filter BaseTests
##   ./dev test --filter 'TidyTests.Layers'

filter=
while (($#)); do
    case $1 in
        --filter)
            (($# > 1)) || usage "--filter needs a pattern"
            filter=$2
            shift
            ;;
        --filter=*) filter=${1#*=} ;;
        *) usage "unknown option '$1'" ;;
    esac
    shift
done

need_swift
need_packages "${packages_build[@]}" "${packages_test[@]}"
need_kernel

# Any other kind of test is a program Tests/NAME/run. If its last line is "N passed, N failed" its tests are counted one by one.
program() {
    local status=0
    "$1" 2>&1 | tee "$output" || status=$?
    tail -n 1 "$output" | sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' >"$counts"
    return $status
}

step "swift build --build-tests" swift build --build-tests
if ((failed)); then
    say "the tests do not build, so none was run"
    finish
fi
step "swift test${filter:+ --filter $filter}" swift_tests "$filter"
if [[ -z $filter ]]; then
    output=$(mktemp)
    trap 'rm -f "$counts" "$output"' EXIT
    for run in Tests/*/run; do
        if [[ -x $run ]]; then step "$run" program "$run"; fi
    done
    step "commands in the docs that are marked to be run" python3 .dev.d/docs.py run
fi
finish
