## runs the simulator: daemons, clients, faults and a checker on a virtual clock
##
## usage: ./dev sim [--seed N | --seeds N] [--json FILE]
##
##   --seed N      replays one seed exactly
##   --seeds N     runs seeds 1 to N
##   --json FILE   writes the result there
##
## Whatever follows is handed to the program rawstor-sim, which knows more options.
##
##   ./dev sim --seed 7
##   ./dev sim --seed 7 --replicated --verbose
##   ./dev sim --seeds 1000 --json sim.json

need_swift
need_packages "${packages_build[@]}"
need_product rawstor-sim
build_release rawstor-sim
simulator=$(release_folder)/rawstor-sim
cd "$caller"
exec "$simulator" "$@"
