## checks the code base itself: format, layers, tidy rules, commands in the docs
##
## usage: ./dev check [--fix]
##
##   --fix    first reformats the Swift files in place
##
## The layers are in docs/layers.txt, the rules in Tests/TidyTests, the format in .swift-format.
##
##   ./dev check
##   ./dev check --fix

fix=
while (($#)); do
    case $1 in
        --fix) fix=yes ;;
        *) usage "unknown option '$1'" ;;
    esac
    shift
done

need_swift
need_packages "${packages_build[@]}"

format() {
    swift format lint --strict --parallel --recursive Package.swift Sources Tests ||
        { say "./dev check --fix puts right what can be put right by itself" && return 1; }
}

tidy() { swift build --build-tests && swift_tests '^TidyTests\.'; }

scripts() {
    local script status=0
    for script in dev .ci/run .dev.d/*.sh Tests/*/run bench/run bench/*.py patches/*/build; do
        [[ -f $script ]] || continue
        if [[ $script == *.py ]] || head -n 1 "$script" | grep -q python; then
            python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$script" || status=1
        else bash -n "$script" || status=1; fi
    done
    return $status
}

if [[ -n $fix ]]; then swift format format --in-place --parallel --recursive Package.swift Sources Tests; fi
step "format" format
step "layers and tidy rules" tidy
step "scripts can be read by bash" scripts
step "commands in the docs" python3 .dev.d/docs.py check
finish
