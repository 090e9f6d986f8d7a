import Testing

@Suite struct StrayTests {
    @Test(arguments: ["stray", "stray-main", "stray-sleep"])
    func taskThatLeavesTheWorldStopsTheRun(_ mode: String) {
        let child = Child([mode])
        #expect(child.status != 0)
        #expect(child.output.contains("a task left the simulated world"))
        #expect(!child.output.contains("ok"))
    }

    @Test func taskThatStaysRuns() {
        let child = Child(["kept"])
        #expect(child.status == 0)
        #expect(child.output == "ok\n")
    }
}
