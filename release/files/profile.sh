set -e
# Where user namespaces are kept from programs without a profile of AppArmor's
# (Ubuntu 23.10 and later), trace gets one, and nothing else on the machine is
# loosened. Elsewhere nothing is done: an AppArmor that does not know
# the rule restricts nothing, and would stumble over the profile at each start.
ours=/usr/share/trace/apparmor/trace
profile=/etc/apparmor.d/trace

# known tells whether the profile that is there is one of a package.
known() {
	head -n 1 "$profile" 2>/dev/null | grep -q '^# Installed by the package trace\.'
}

# enabled tells whether the kernel that runs has AppArmor switched on.
enabled() {
	[ -r /sys/module/apparmor/parameters/enabled ] && grep -q Y /sys/module/apparmor/parameters/enabled
}

load_profile() {
	command -v apparmor_parser >/dev/null 2>&1 && [ -e /etc/apparmor.d/abi/4.0 ] || return 0
	apparmor_parser --skip-kernel-load --skip-cache --quiet "$ours" >/dev/null 2>&1 || return 0
	if [ -e "$profile" ] && ! known; then
		echo "trace: $profile is not of the package and stays as it is" >&2
		return 0
	fi
	cp "$ours" "$profile.new" && chmod 644 "$profile.new" && mv "$profile.new" "$profile" || return 0
	if enabled; then
		apparmor_parser --replace "$profile" || echo "trace: the AppArmor profile was not loaded: apparmor_parser --replace $profile" >&2
	fi
}

unload_profile() {
	known || return 0
	if enabled && command -v apparmor_parser >/dev/null 2>&1; then
		apparmor_parser --remove "$profile" >/dev/null 2>&1 || true
	fi
	rm -f "$profile"
}

