import Arguments
import Base
import Reactor

// Parses the command line and runs one command in a world of its own. Everything else is in the commands.

Limits.check()
Reactor.ignoreBrokenPipes()
syntax.runProgram(run, misuse: answer(misuse:))
