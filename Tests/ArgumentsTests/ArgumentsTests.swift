import Arguments
import Base
import Testing

private let syntax = CommandSyntax(
    program: "prog", summary: "Does things.",
    verbs: [
        .init(
            "init", "Makes a store.", positionals: [.init("PATH", "The file.")],
            options: [
                .value("size", "SIZE", "How large."), .value("listen", "ADDRESS", "Where.", isRepeatable: true), .flag("force", "Anyway."),
                .flag("watch", value: "SECONDS", "Again."),
            ],
            examples: [.init("prog init /x --size 4G", "A store of 4 GiB")]),
        .init(
            "volume create", "Makes a volume.", positionals: [.init("URL", "Which.")],
            options: [.value("size", "SIZE", "Size.", isRequired: true)]),
        .init("info", "Tells.", positionals: [.init("PATH", "The file.", isOptional: true)]),
    ],
    exitCodes: [.init(0, "well"), .init(2, "usage")])

private func command(_ words: String...) throws -> ParsedCommand {
    guard case .run(let command) = try ParsedCommand.parse(words, as: syntax) else { throw Failure(.invalidArgument, "help") }
    return command
}

private func problem(_ words: String...) -> String {
    do {
        _ = try ParsedCommand.parse(words, as: syntax)
        return "no problem"
    } catch {
        return error.detail
    }
}

@Suite struct ArgumentsTests {
    @Test func optionsAndArgumentsMix() throws {
        let parsed = try command("init", "--size", "4G", "/x", "--listen=a", "--force", "--listen", "b")
        #expect(parsed.verb == "init" && parsed.positionals == ["/x"])
        #expect(parsed.value("size") == "4G" && parsed.values("listen") == ["a", "b"] && parsed.has("force"))
        #expect(!(try command("init", "/x").has("force")))
    }

    /// What follows a switch is never taken for its value.
    @Test func aSwitchMayHaveAValue() throws {
        let bare = try command("init", "--watch", "/x")
        #expect(bare.has("watch") && bare.value("watch") == nil && bare.positionals == ["/x"])
        #expect(try command("init", "/x", "--watch=5").value("watch") == "5")
        #expect(problem("init", "/x", "--watch", "--watch=5").contains("given twice"))
        guard case .help(let text) = try ParsedCommand.parse(["init", "--help"], as: syntax) else { throw Failure(.invalidArgument, "") }
        #expect(text.contains("--watch[=SECONDS]"))
    }

    @Test func afterTwoDashesEverythingIsAnArgument() throws {
        #expect(try command("init", "--", "--size").positionals == ["--size"])
    }

    @Test func theVerbOfAProgramThatDoesOneThingIsNotWritten() throws {
        let one = CommandSyntax(
            program: "one", summary: "Does it.", verbs: [.init("", "Does it.", options: [.value("seed", "N", "Which.")])], exitCodes: [])
        guard case .run(let parsed) = try ParsedCommand.parse(["--seed", "7"], as: one) else { throw Failure(.invalidArgument, "help") }
        #expect(parsed.verb.isEmpty && parsed.value("seed") == "7")
        guard case .run = try ParsedCommand.parse([], as: one) else { throw Failure(.invalidArgument, "help") }
        #expect(try ParsedCommand.parse(["--help"], as: one) == .help(one.help(for: one.verbs[0])))
        #expect(try ParsedCommand.parse(["--version"], as: one) == .help("one \(softwareVersion)\n"))
    }

    @Test func verbsOfTwoWords() throws {
        #expect(try command("volume", "create", "u", "--size", "1").verb == "volume create")
        #expect(problem("volume") == "'volume' is followed by one of: create")
    }

    @Test func aVerbThatDoesNotExistLeadsToTheOneThatDoes() {
        #expect(problem("volume", "creat").hasPrefix("there is no command 'volume creat'; did you mean 'volume create'?"))
        #expect(problem("volume", "elephant").hasSuffix("'volume' is followed by one of: create"))
        #expect(problem("create", "u").contains("did you mean 'volume create'?"))
        #expect(problem("volum", "create").contains("did you mean 'volume create'?"))
        #expect(problem("volume", "--size").hasPrefix("'volume' is followed by one of"))
    }

    @Test func aNounHasHelpOfItsOwn() throws {
        for words in [["volume", "--help"], ["help", "volume"]] {
            guard case .help(let text) = try ParsedCommand.parse(words, as: syntax) else { throw Failure(.invalidArgument, "no help") }
            #expect(text.contains("volume create URL") && !text.contains("init PATH") && text.contains("Exit codes:"))
        }
        #expect(problem("elephant", "--help").contains("there is no command"))
    }

    @Test func unknownOptionsAreNamedWithASuggestion() {
        #expect(
            problem("init", "/x", "--siez", "4G") == "there is no option '--siez'; did you mean '--size'? 'prog init --help' lists them")
        #expect(problem("init", "/x", "--elephant") == "there is no option '--elephant'; 'prog init --help' lists them")
        #expect(problem("init", "/x", "-size").contains("did you mean '--size'?"))
        #expect(problem("inti").contains("did you mean 'init'?"))
        #expect(problem("") == "there is no command ''; 'prog --help' lists them")
    }

    @Test func whatIsMissingOrTooMuchIsNamed() {
        #expect(problem().contains("no command"))
        #expect(problem("init").contains("PATH is missing"))
        #expect(problem("init", "a", "b").contains("'b' is one argument too many"))
        #expect(problem("init", "a", "--size").contains("'--size' needs a value"))
        #expect(problem("init", "a", "--size", "1", "--size", "2").contains("given twice"))
        #expect(problem("init", "a", "--force=1").contains("takes no value"))
        #expect(problem("volume", "create", "u").contains("--size SIZE is missing"))
    }

    @Test func helpIsMadeFromTheSyntax() throws {
        guard case .help(let all) = try ParsedCommand.parse(["--help"], as: syntax),
            case .help(let one) = try ParsedCommand.parse(["init", "--size", "--help", "--help"], as: syntax),
            case .help(let other) = try ParsedCommand.parse(["help", "volume", "create"], as: syntax)
        else { throw Failure(.invalidArgument, "no help") }
        #expect(all.contains("volume create URL [OPTIONS]") && all.contains("Exit codes:"))
        #expect(one.contains("--size SIZE") && one.contains("prog init /x --size 4G") && one.contains("Makes a store."))
        #expect(other.contains("Required."))
    }
}

@Suite struct ByteSizeTests {
    @Test func sizesAreReadWithUnits() throws {
        for (text, bytes) in [
            ("4096", 4096), ("1k", 1024), ("512M", 512 << 20), ("4G", 4 << 30), ("1TiB", 1 << 40), ("2gb", 2 << 30), ("7B", 7),
        ] {
            #expect(try ByteSize.parse(text) == UInt64(bytes), "\(text)")
        }
        for text in ["", "G", "4X", "-1", "4GiBB", "1.5G", "99999999999P", "4 G", "١G"] {
            #expect(throws: Failure.self, "\(text)") { try ByteSize.parse(text) }
        }
    }

    @Test func sizesAreWrittenShort() {
        #expect(ByteSize.text(0) == "0 B")
        #expect(ByteSize.text(1023) == "1023 B")
        #expect(ByteSize.text(1024) == "1.0 KiB")
        #expect(ByteSize.text((20 << 30) + (1 << 29)) == "20.5 GiB")
        #expect(ByteSize.text((1 << 30) - 1) == "1023.9 MiB")
    }
}
