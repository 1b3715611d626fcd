#!/bin/sh
# Downloads the jars of a real Apache Kafka, once, into .cache/kafka/lib of this repository or into the folder given.
#
#   scripts/fetch-kafka/fetch.sh [FOLDER]
#
# Tests find them in the default folder, or where TOLLSTREAM_KAFKA_JARS says.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
case "${1-}" in
-h | --help)
	sed -n '2,5s/^# \{0,1\}//p' "$0"
	exit 0
	;;
-*)
	echo "fetch-kafka: unknown flag $1: usage: fetch.sh [FOLDER]" >&2
	exit 2
	;;
esac
if [ $# -gt 1 ]; then
	echo "fetch-kafka: want one folder at most: usage: fetch.sh [FOLDER]" >&2
	exit 2
fi
target=${1:-$here/../../.cache/kafka/lib}

# The stamp says that the folder is complete, and of which pom.
if [ -f "$target/fetched.pom" ] && cmp -s "$here/pom.xml" "$target/fetched.pom"; then
	exit 0
fi
if ! command -v mvn >/dev/null 2>&1; then
	echo "fetch-kafka: mvn is not on PATH: install Maven, or set TOLLSTREAM_KAFKA_JARS to a folder with Kafka's jars" >&2
	exit 1
fi

# The folder is replaced as a whole, so it must be ours or not there: an empty one will do.
if [ -d "$target" ] && [ ! -f "$target/fetched.pom" ] && ! rmdir "$target" 2>/dev/null; then
	echo "fetch-kafka: folder $target holds something else: name another" >&2
	exit 1
fi
mkdir -p "$(dirname "$target")"
target=$(cd "$(dirname "$target")" && pwd)/$(basename "$target")
part=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$part"' EXIT
chmod 755 "$part"
if ! mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$part" >"$part/log" 2>&1; then
	echo "fetch-kafka: Maven could not fetch the jars:" >&2
	grep -m 5 'ERROR' "$part/log" >&2 || tail -n 5 "$part/log" >&2
	exit 1
fi
rm "$part/log"
cp "$here/pom.xml" "$part/fetched.pom"
rm -rf "$target"
mv "$part" "$target"
