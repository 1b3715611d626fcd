#!/usr/bin/env bash
# Looks for known vulnerabilities in the code that we call. It fails for those that it finds, and says so, loudly, where the
# database of them can't be reached: a network that is away is no finding, and no all-clear either.
#
# GOVULNDB names another database than https://vuln.go.dev, such as a mirror or file:///folder.
set -euo pipefail
cd "$(dirname "$0")/.."

db=()
[ -z "${GOVULNDB:-}" ] || db=(-db "$GOVULNDB")
status=0
output=
for module in . embedded packaging collector; do
	found=0
	text=$("$(go tool -n govulncheck)" -C "$module" ${db[@]+"${db[@]}"} ./... 2>&1) || found=$?
	printf '%s:\n%s\n' "$module" "$text"
	output+=$text
	[ "$found" -le "$status" ] || status=$found
done
case $status in
0) exit 0 ;;
3) # govulncheck's own code for findings
	echo "vulncheck: vulnerabilities were found; update the modules above" >&2
	exit 1
	;;
esac
if [[ $output == *"fetching vulnerabilities: "* ]]; then
	cat >&2 <<-'END'

		################################################################################
		#  NOT CHECKED FOR VULNERABILITIES: the database could not be reached.         #
		#  Run scripts/vulncheck.sh where it can, or name a mirror with GOVULNDB.      #
		################################################################################

	END
	exit 0
fi
echo "vulncheck: govulncheck failed with exit status $status" >&2
exit 1
