. testdata/overlay.sh

# Small images leave out what people read.
dpkg() { command dpkg --path-include='/usr/share/*' --no-triggers "$@"; }

# On a system whose AppArmor is too old, nothing is done about it.
rm -f /etc/apparmor.d/abi/4.0 /etc/apparmor.d/trace
dpkg -i "$PACKAGE"
dpkg -V trace
[ ! -e /etc/apparmor.d/trace ]
used

# AppArmor is there, is switched on, and then comes to know the rule.
apparmor_comes
dpkg-trigger --by-package=dpkg /etc/apparmor.d/abi
command dpkg --triggers-only trace
grep -q 'userns,' /etc/apparmor.d/trace
grep -q '"/usr/bin/trace"' /etc/apparmor.d/trace

# An upgrade keeps it, a removal takes it away.
dpkg -i "$PACKAGE"
[ -e /etc/apparmor.d/trace ]
dpkg -r trace
[ ! -e /etc/apparmor.d/trace ]

# One that a person wrote is theirs.
echo mine >/etc/apparmor.d/trace
dpkg -i "$PACKAGE"
dpkg -P trace
[ "$(cat /etc/apparmor.d/trace)" = mine ]
rm -f /etc/apparmor.d/trace /etc/apparmor.d/abi/4.0
if dpkg -s trace >/dev/null 2>&1; then exit 1; fi
echo "left: $(left)"
