# Sourced in a user and mount namespace: what is written to the machine's directories
# from here on goes into $T and is gone afterwards.
set -eu
mount -t tmpfs tmpfs "$T"
for d in usr etc var; do
	mkdir -p "$T/up/$d" "$T/work/$d"
	mount -t overlay overlay -o "lowerdir=/$d,upperdir=$T/up/$d,userxattr,workdir=$T/work/$d" "/$d"
done
mkdir -p "$T/home" "$T/stub"
export HOME=$T/home XDG_STATE_HOME=$T/home/state
cd "$T/home"

# left prints the files that are left of what was written.
left() { find "$T/up/usr" "$T/up/etc" -type f; }

# used runs the installed program around a client, and reads its record.
used() {
	[ "$(command -v trace)" = /usr/bin/trace ]
	trace version
	trace run --inspect --quiet -- curl -sS "$URL"
	trace flows list
	man -w trace-run
	man trace-run | grep -q 'namespace of the command'
}

# apparmor_comes puts an AppArmor in place that is switched on and knows the rule. Its
# parser only says what it was asked.
apparmor_comes() {
	mount -t tmpfs tmpfs /sys/module
	mkdir -p /sys/module/apparmor/parameters /etc/apparmor.d/abi
	echo Y >/sys/module/apparmor/parameters/enabled
	printf '#!/bin/sh\necho "parser: $*"\n' >"$T/stub/apparmor_parser"
	chmod +x "$T/stub/apparmor_parser"
	PATH=$T/stub:$PATH
	: >/etc/apparmor.d/abi/4.0
}
