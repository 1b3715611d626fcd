#!/usr/bin/env bash
# Fails where a failed test of a run reported more than a busy machine can cause: events that were lost, doubled or wrong, a
# data race, a panic, a leak. Such a failure is final, even if a rerun passed. Words count where an assertion says them (of a test
# or of a script), not in the output of a command that it quotes.
#
#	scripts/final-failures.sh events.json   # of go test -json, with the events of reruns
set -euo pipefail
exec awk '
function field(name) {
	return match($0, "\"" name "\":\"[^\"]*\"") ? substr($0, RSTART, RLENGTH) : ""
}
{ key = field("Package") " " field("Test") }
/"Action":"output"/ {
	said = tolower(substr($0, index($0, "\"Output\":") + 9))
	asserted = said ~ /^" *([a-z0-9_]+[.]go:[0-9]+|fail): /
	if (asserted && said ~ wrong || said ~ broken) found[key] = found[key] $0 "\n"
}
/"Action":"fail"/ && key in found { printf "%s", found[key]; failed = 1 }
END {
	if (failed) print "a failed test reported one of the above, for which no rerun counts"
	exit failed
}
' wrong='(^|[^a-z])(lost|doubled|differs?|violat|mismatch|exact|leak|verify|window |revision)' \
	broken='data race|panic:|goroutine [0-9]+ [[]|fatal error:' "$1" >&2
