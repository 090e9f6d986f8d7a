import Base

/// What a command line says, checked against its syntax: every option is known, has a value if it takes one, and every argument is there.
public struct ParsedCommand: Hashable, Sendable {
    public enum Outcome: Hashable, Sendable {
        case run(ParsedCommand)
        /// Help or the version was asked for: print this and leave, well.
        case help(String)
    }

    public private(set) var verb: String
    public private(set) var positionals: [String] = []
    private var values: [String: [String]] = [:]

    private init(verb: String) { self.verb = verb }

    public func has(_ option: String) -> Bool { values[option] != nil }
    public func value(_ option: String) -> String? { values[option]?.last }
    public func values(_ option: String) -> [String] { values[option] ?? [] }

    /// `arguments` without the program's own name. The only verb of a program that does one thing has no name, and is not written.
    public static func parse(_ arguments: [String], as syntax: CommandSyntax) throws(Failure) -> Outcome {
        if arguments == ["--version"] { return .help("\(syntax.program) \(softwareVersion)\n") }
        if let verb = syntax.verbs.first, verb.name.isEmpty { return try parse(arguments, verb, syntax) }
        guard let first = arguments.first else {
            throw Failure(.invalidArgument, "no command is given; '\(syntax.program) --help' lists them")
        }
        if first == "--help" || first == "-h" || first == "help", arguments.count == 1 { return .help(syntax.help) }
        let words = first == "help" ? Array(arguments.dropFirst()) : arguments
        if let noun = words.first, asksAboutNoun(arguments), let text = syntax.help(forNoun: noun) { return .help(text) }
        guard let (verb, used) = find(words, syntax) else { throw unknownVerb(words, syntax) }
        if first == "help" { return .help(syntax.help(for: verb)) }
        return try parse(Array(words.dropFirst(used)), verb, syntax)
    }

    /// `help NOUN` and `NOUN --help`, where NOUN is the first word of several verbs.
    private static func asksAboutNoun(_ arguments: [String]) -> Bool {
        guard arguments.count == 2 else { return false }
        return arguments[0] == "help" || ["--help", "-h", "help"].contains(arguments[1])
    }

    /// The longest verb that the words begin with.
    private static func find(_ words: [String], _ syntax: CommandSyntax) -> (CommandSyntax.Verb, Int)? {
        for count in [2, 1] where words.count >= count {
            let name = words.prefix(count).joined(separator: " ")
            if let verb = syntax.verbs.first(where: { $0.name == name }) { return (verb, count) }
        }
        return nil
    }

    private static func unknownVerb(_ words: [String], _ syntax: CommandSyntax) -> Failure {
        let first = words.first ?? ""
        let relatives = syntax.verbs.filter { $0.name.hasPrefix(first + " ") }
        if !relatives.isEmpty {
            let names = relatives.map { String($0.name.dropFirst(first.count + 1)) }
            let list = "'\(first)' is followed by one of: \(names.joined(separator: ", "))"
            guard words.count > 1, !words[1].hasPrefix("-") else { return Failure(.invalidArgument, list) }
            let suggestion = closest(to: words[1], among: names).map { "; did you mean '\(first) \($0)'?" } ?? ";"
            return Failure(.invalidArgument, "there is no command '\(first) \(words[1])'\(suggestion) \(list)")
        }
        // A verb of two words may be asked for by its second.
        let guess =
            syntax.verbs.first { $0.name.hasSuffix(" " + first) }?.name
            ?? closest(to: words.prefix(2).joined(separator: " "), among: syntax.verbs.map(\.name))
            ?? closest(to: first, among: syntax.verbs.map(\.name) + syntax.nouns)
        let suggestion = guess.map { "; did you mean '\($0)'?" } ?? ""
        return Failure(
            .invalidArgument,
            "there is no command '\(first)'\(suggestion)\(suggestion.isEmpty ? ";" : "") '\(syntax.program) --help' lists them")
    }

    private static func parse(_ words: [String], _ verb: CommandSyntax.Verb, _ syntax: CommandSyntax) throws(Failure) -> Outcome {
        var command = ParsedCommand(verb: verb.name)
        var position = 0
        var takesOptions = true
        while position < words.count {
            let word = words[position]
            position += 1
            if takesOptions, word == "--" {
                takesOptions = false
            } else if takesOptions, word == "--help" || word == "-h" {
                return .help(syntax.help(for: verb))
            } else if takesOptions, word.hasPrefix("-"), word != "-" {
                try command.takeOption(word, words, &position, verb, syntax)
            } else {
                command.positionals.append(word)
            }
        }
        try command.checkComplete(verb, syntax)
        return .run(command)
    }

    private mutating func takeOption(
        _ word: String, _ words: [String], _ position: inout Int, _ verb: CommandSyntax.Verb, _ syntax: CommandSyntax
    ) throws(Failure) {
        let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        let name = parts[0].hasPrefix("--") ? String(parts[0].dropFirst(2)) : ""
        guard let option = verb.options.first(where: { $0.name == name }) else {
            let bare = String(parts[0].drop { $0 == "-" })
            let suggestion = closest(to: bare, among: verb.options.map(\.name) + ["help"]).map { "; did you mean '--\($0)'?" } ?? ""
            throw Failure(
                .invalidArgument,
                "there is no option '\(parts[0])'\(suggestion)\(suggestion.isEmpty ? ";" : "") "
                    + "'\(syntax.spelled(verb)) --help' lists them"
            )
        }
        guard let placeholder = option.value else {
            guard parts.count == 1 else { throw Failure(.invalidArgument, "'--\(name)' takes no value") }
            values[name] = []
            return
        }
        if option.isValueOptional, parts.count == 1 {
            values[name] = []
            return
        }
        let value: String
        if parts.count == 2 {
            value = parts[1]
        } else {
            guard position < words.count else { throw Failure(.invalidArgument, "'--\(name)' needs a value: --\(name) \(placeholder)") }
            value = words[position]
            position += 1
        }
        guard option.isRepeatable || values[name] == nil else { throw Failure(.invalidArgument, "'--\(name)' is given twice") }
        values[name, default: []].append(value)
    }

    private func checkComplete(_ verb: CommandSyntax.Verb, _ syntax: CommandSyntax) throws(Failure) {
        let needed = verb.positionals.filter { !$0.isOptional }
        if positionals.count < needed.count {
            throw Failure(
                .invalidArgument,
                "\(needed[positionals.count].name) is missing; '\(syntax.spelled(verb)) --help' says what is needed")
        }
        if positionals.count > verb.positionals.count {
            let extra = positionals[verb.positionals.count]
            throw Failure(.invalidArgument, "'\(extra)' is one argument too many for '\(syntax.spelled(verb))'")
        }
        for option in verb.options where option.isRequired && values[option.name] == nil {
            throw Failure(.invalidArgument, "--\(option.name) \(option.value ?? "") is missing for '\(syntax.spelled(verb))'")
        }
    }
}

/// The candidate that a slip of the fingers would turn into `word`, if there is one.
func closest(to word: String, among candidates: [String]) -> String? {
    let measured = candidates.map { ($0, editDistance(word, $0)) }
    guard let best = measured.min(by: { $0.1 < $1.1 }), best.1 <= max(1, min(word.count, best.0.count) / 3) else { return nil }
    return best.0
}

/// Insertions, removals, replacements and swaps of neighbours that lead from one to the other.
private func editDistance(_ left: String, _ right: String) -> Int {
    let (a, b) = (Array(left.utf8), Array(right.utf8))
    var older = [Int](repeating: 0, count: b.count + 1)
    var old = Array(0...b.count)
    for i in 0..<a.count {
        var new = [i + 1] + [Int](repeating: 0, count: b.count)
        for j in 0..<b.count {
            new[j + 1] = min(old[j + 1] + 1, new[j] + 1, old[j] + (a[i] == b[j] ? 0 : 1))
            if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { new[j + 1] = min(new[j + 1], older[j - 1] + 1) }
        }
        older = old
        old = new
    }
    return old[b.count]
}
