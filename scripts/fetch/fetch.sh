#!/bin/sh
# Downloads a real server for tests from Maven Central, once, into .cache of this repository or into the folder given.
#
#   scripts/fetch/fetch.sh kafka|mysql|registry [FOLDER]
#
# kafka: Apache Kafka's jars, in .cache/kafka/lib. Tests find them there, or where TOLLSTREAM_KAFKA_JARS says.
# mysql: MySQL 8.0 for Linux amd64, in .cache/mysql. Tests find bin/mysqld there, or where TOLLSTREAM_MYSQLD says.
# registry: Apicurio's schema registry, in .cache/registry. Tests find its jar there.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
what=${1-}
case "$what" in
kafka) default=$here/../../.cache/kafka/lib instead="TOLLSTREAM_KAFKA_JARS to a folder with Kafka's jars" ;;
mysql) default=$here/../../.cache/mysql instead="TOLLSTREAM_MYSQLD to a mysqld of MySQL 8" ;;
registry) default=$here/../../.cache/registry instead="nothing: its test is skipped" ;;
-h | --help)
	sed -n '2,8s/^# \{0,1\}//p' "$0"
	exit 0
	;;
*)
	echo "fetch: want kafka, mysql or registry: usage: fetch.sh kafka|mysql|registry [FOLDER]" >&2
	exit 2
	;;
esac
case "$#,${2-}" in
2,-* | [!12],*)
	echo "fetch: want one folder at most, and no flag: usage: fetch.sh kafka|mysql|registry [FOLDER]" >&2
	exit 2
	;;
esac
target=${2:-$default}

# MySQL's archive has programs for Linux amd64. Elsewhere its tests are skipped, or run on what TOLLSTREAM_MYSQLD names.
if [ "$what" = mysql ] && [ "$(uname -sm)" != "Linux x86_64" ]; then
	echo "fetch: no MySQL for $(uname -sm), skipped: set TOLLSTREAM_MYSQLD to test on one that is installed"
	exit 0
fi

# The stamp says that the folder is complete, and of which pom.
if [ -f "$target/fetched.pom" ] && cmp -s "$here/$what.xml" "$target/fetched.pom"; then
	exit 0
fi
if ! command -v mvn >/dev/null 2>&1; then
	echo "fetch: mvn is not on PATH: install Maven, or set $instead" >&2
	exit 1
fi

# The folder is replaced as a whole, so it must be ours or not there: an empty one will do.
if [ -d "$target" ] && [ ! -f "$target/fetched.pom" ] && ! rmdir "$target" 2>/dev/null; then
	echo "fetch: folder $target holds something else: name another" >&2
	exit 1
fi
mkdir -p "$(dirname "$target")"
target=$(cd "$(dirname "$target")" && pwd)/$(basename "$target")
part=$(mktemp -d "$target.XXXXXX")
trap 'rm -rf "$part"' EXIT
chmod 755 "$part"

# maven runs a goal of the dependency plugin.
maven() {
	if ! mvn -q -B -f "$here/$what.xml" "$@" -DincludeScope=runtime -DoutputDirectory="$part" >"$part/log" 2>&1; then
		echo "fetch: Maven could not fetch $what:" >&2
		grep -m 5 'ERROR' "$part/log" >&2 || tail -n 5 "$part/log" >&2
		exit 1
	fi
	rm "$part/log"
}

case "$what" in
kafka) maven dependency:copy-dependencies ;;
registry)
	# Not by the pom's dependencies: Maven would want the parent's pom, which is not served.
	maven org.apache.maven.plugins:maven-dependency-plugin:2.8:get -Dtransitive=false \
		-Dartifact=io.apicurio:apicurio-registry-app:3.0.9:tar.gz:all -Ddest="$part/registry.tar.gz"
	tar -xzf "$part/registry.tar.gz" -C "$part" --no-same-owner
	rm "$part/registry.tar.gz"
	;;
mysql)
	# The Maven plugin keeps notes of what it unpacked in a folder "target" of the pom's, if not told otherwise.
	maven dependency:unpack-dependencies -DmarkersDirectory="$part/markers"
	tar -xzf "$part/mysql-Linux-amd64.tar.gz" -C "$part" --no-same-owner
	# Two links in bin lead to folders of the machine that packed them.
	rm -rf "$part/mysql-Linux-amd64.tar.gz" "$part/markers" "$part"/bin/*.so.*
	# The system tables take seconds to create, so each server that a test starts copies these.
	if ! "$part/bin/mysqld" --no-defaults --initialize-insecure --user="$(id -un)" --datadir="$part/template" \
		--basedir="$part" --lc-messages-dir="$part/share" --character-sets-dir="$part/share/charsets" >"$part/log" 2>&1; then
		echo "fetch: mysqld does not run; it needs Debian's packages libaio1 and libnuma1:" >&2
		tail -n 5 "$part/log" >&2
		exit 1
	fi
	rm "$part/log" "$part/template/auto.cnf" # which would make all of them the same server
	;;
esac
cp "$here/$what.xml" "$part/fetched.pom"
rm -rf "$target"
mv "$part" "$target"
