"""Reports each test to run.sh as one line: "ok - NAME", "not ok - NAME" or "ok - NAME # SKIP reason"."""


def pytest_terminal_summary(terminalreporter):
    write = terminalreporter.write_line
    write("")

    def name(report):
        return report.nodeid.removeprefix("tests/").replace("#", "")

    for report in terminalreporter.stats.get("passed", []):
        write(f"ok - {name(report)}")
    for kind in ("failed", "error"):
        for report in terminalreporter.stats.get(kind, []):
            write(f"not ok - {name(report)}")
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        write(f"ok - {name(report)} # SKIP {reason.removeprefix('Skipped: ')}")
