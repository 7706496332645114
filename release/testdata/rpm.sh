. testdata/overlay.sh
rm -f /etc/apparmor.d/abi/4.0 /etc/apparmor.d/trace
rpm() { command rpm --dbpath "$T/rpm" "$@"; }
rpm --initdb
rpm --force-debian --nodeps -i "$PACKAGE"
rpm -V --nodeps trace
used
[ ! -e /etc/apparmor.d/trace ]
rpm -e trace

# Where AppArmor is there before. rpm runs scripts with a PATH of its own.
apparmor_comes
cp "$T/stub/apparmor_parser" /usr/sbin/apparmor_parser
rpm --force-debian --nodeps -i "$PACKAGE"
grep -q 'userns,' /etc/apparmor.d/trace
rpm -e trace
[ ! -e /etc/apparmor.d/trace ]
rm -f /usr/sbin/apparmor_parser /etc/apparmor.d/abi/4.0
if rpm -q trace; then exit 1; fi
[ ! -e /usr/share/doc/trace ]
[ ! -e /usr/share/trace ]
echo "left: $(left)"
