package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestDoctor: where all is well the doctor and the run say so.
func TestDoctor(t *testing.T) {
	for _, w := range worlds(t) {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			r := j.must(j.trace("namespace", "doctor", "--json", "--link", w.link, "--device", w.device), 0)
			report := readReport(t, w, r)
			if !report.OK || report.Device != w.device {
				t.Errorf("report %+v", report)
			}
			j.must(j.inspect(nil, "true"), 0)
		})
	}
}

// readReport reads what the doctor printed and checks what is true of all
// reports.
func readReport(t *testing.T, w world, r result) report {
	t.Helper()
	if r.code > 1 || r.stderr != "" {
		t.Fatalf("doctor: exit %d: %s", r.code, r.stderr)
	}
	report := decodeReport(t, r.stdout)
	if report.Privacy || report.OK != (r.code == 0) {
		t.Errorf("privacy %v, ok %v, exit %d", report.Privacy, report.OK, r.code)
	}
	var more struct {
		UID    int
		Kernel string
		Checks []struct {
			ID string
			MS float64
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &more); err != nil {
		t.Fatal(err)
	}
	var u unix.Utsname
	unix.Uname(&u)
	uid := ordinary.uid
	if w.root {
		uid = 0
	}
	if more.UID != uid || more.Kernel != unix.ByteSliceToString(u.Release[:]) {
		t.Errorf("uid %d, kernel %s", more.UID, more.Kernel)
	}
	failed := false
	for i, c := range report.Checks {
		failed = failed || c.Status == "fail"
		if (c.Status == "warn" || c.Status == "fail") && c.Hint == "" {
			t.Errorf("%s: %s without a hint", c.ID, c.Status)
		}
		if c.Found == "" {
			t.Errorf("%s: %s, and nothing was found", c.ID, c.Status)
		}
		if slices.Contains([]string{"device", "store", "ca", "trust-go"}, c.ID) && c.Status == "pass" && more.Checks[i].MS <= 0 {
			t.Errorf("%s took no time", c.ID)
		}
	}
	if failed == report.OK {
		t.Errorf("ok %v, but failed %v", report.OK, failed)
	}
	return report
}

// A trouble is a machine on which something is amiss.
type trouble struct {
	name string
	user string   // who it is for: "user", "root", or both
	wrap []string // makes it, before it is known who runs trace
	as   []string // in the place of what becomes the ordinary user
	in   []string // makes it, as whoever runs trace
	env  []string
	args []string // of doctor and run

	id, status string // the check that tells, and what it says
	errno      string // of that check
	hint       string // is in that check's hint
	mend       string // is in the hint too, and mends it
}

// argv returns cmd on that machine. Where a trouble has a mend, its scripts
// evaluate MEND.
func (tr *trouble) argv(w world, cmd ...string) []string {
	who := tr.as
	if who == nil && !w.root && os.Getuid() == 0 {
		who = asOrdinary()
	}
	return slices.Concat(tr.wrap, who, tr.in, cmd)
}

// script makes an argv that runs a shell script and then "$@".
func script(unshare, text string, args ...string) []string {
	argv := append([]string{"unshare"}, strings.Fields(unshare)...)
	return append(append(argv, "sh", "-c", "set -e\n"+text+"\n"+`eval "${MEND:-}"; exec "$@"`, "sh"), args...)
}

const ownMounts = "--mount --propagation private"

func troubles(t *testing.T) []trouble {
	t.Helper()
	filter := filepath.Join(workDir, "seccomp")
	if err := build(filter, "./testdata/seccomp"); err != nil {
		t.Fatal(err)
	}
	closed := "mount -t tmpfs -o mode=755 none /dev/net\n"
	node := closed + "mknod /dev/net/tun c 10 200; "
	noRoots := "for d in /etc/ssl /usr/lib/ssl /etc/pki /usr/share/ssl /usr/local/etc/ssl; do if [ -d $d ]; then mount -t tmpfs -o mode=755 none $d; fi; done"
	const namespaces = `exec setpriv --inh-caps=-all --ambient-caps=-all "$@"`
	limit := func(kind string) []string {
		return script("--user --map-current-user --keep-caps", "echo 0 > /proc/sys/user/max_"+kind+`_namespaces; eval "${MEND:-}"; `+namespaces)
	}
	rootLimit := func(kind string) []string {
		return script("--user --map-root-user", "echo 0 > /proc/sys/user/max_"+kind+"_namespaces")
	}
	list := []trouble{
		{name: "no user namespaces", user: "user", in: limit("user"), id: "userns", status: "fail", errno: "ENOSPC", mend: "sudo sysctl -w user.max_user_namespaces=15000"},
		{name: "no network namespaces", user: "user", in: limit("net"), id: "netns", status: "fail", errno: "ENOSPC", mend: "sudo sysctl -w user.max_net_namespaces=15000"},
		{name: "no mount namespaces", user: "user", in: limit("mnt"), id: "mntns", status: "fail", errno: "ENOSPC", mend: "sudo sysctl -w user.max_mnt_namespaces=15000"},
		{name: "no network namespaces", user: "root", in: rootLimit("net"), id: "netns", status: "fail", errno: "ENOSPC", mend: "sudo sysctl -w user.max_net_namespaces=15000"},
		{name: "no mount namespaces", user: "root", in: rootLimit("mnt"), id: "mntns", status: "fail", errno: "ENOSPC", mend: "sudo sysctl -w user.max_mnt_namespaces=15000"},
		{name: "sandbox", user: "user", in: []string{"bwrap", "--dev-bind", "/", "/", "--unshare-user", "--disable-userns", "--"}, id: "userns", status: "fail", errno: "ENOSPC", hint: "--disable-userns"},
		{name: "seccomp", user: "user", in: []string{filter}, id: "userns", status: "fail", errno: "EPERM", hint: "--security-opt seccomp="},
		{name: "seccomp", user: "root", in: []string{filter}, id: "netns", status: "fail", errno: "EPERM", hint: "--security-opt seccomp="},
		{name: "no tun", wrap: script(ownMounts, closed), id: "device", status: "warn", errno: "ENOENT", mend: "sudo mkdir -p /dev/net && sudo mknod -m 0666 /dev/net/tun c 10 200"},
		{name: "tun of root", user: "user", wrap: script(ownMounts, node+"chmod 600 /dev/net/tun"), id: "device", status: "warn", errno: "EACCES", mend: "sudo chmod 0666 /dev/net/tun"},
		{name: "tun without driver", wrap: script(ownMounts, closed+"mknod -m 666 /dev/net/tun c 10 254"), id: "device", status: "warn", errno: "ENODEV",
			mend: "sudo rm /dev/net/tun && sudo mkdir -p /dev/net && sudo mknod -m 0666 /dev/net/tun c 10 200"},
		{name: "no devices", wrap: script(ownMounts, node+"chmod 666 /dev/net/tun; mount -o remount,nodev /dev/net"), id: "device", status: "warn", errno: "EACCES", mend: "sudo mount -o remount,dev /dev/net"},
		{name: "tun wanted, none there", args: []string{"--device", "tun"}, wrap: script(ownMounts, closed), id: "device", status: "fail", errno: "ENOENT", hint: "--device veth", mend: "sudo mkdir -p /dev/net && sudo mknod -m 0666 /dev/net/tun c 10 200"},
		{name: "tun wanted, root's", user: "user", args: []string{"--device", "tun"}, wrap: script(ownMounts, node+"chmod 600 /dev/net/tun"), id: "device", status: "fail", errno: "EACCES", hint: "--device veth", mend: "sudo chmod 0666 /dev/net/tun"},
		{name: "tun wanted, no driver", args: []string{"--device", "tun"}, wrap: script(ownMounts, closed+"mknod -m 666 /dev/net/tun c 10 254"), id: "device", status: "fail", errno: "ENODEV", hint: "--device veth"},
		{name: "settings read-only", wrap: script(ownMounts, "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys"), id: "sysctl", status: "warn", errno: "EROFS", hint: "nothing needs to be done"},
		{name: "no IPv6", wrap: script("--net", "ip link set lo up; for c in all default; do echo 1 > /proc/sys/net/ipv6/conf/$c/disable_ipv6; done"), id: "ipv6", status: "pass"},
		{name: "no roots", wrap: script(ownMounts, noRoots), id: "roots", status: "warn", hint: "apt install ca-certificates"},
		{name: "no resolver", wrap: script(ownMounts, "mount --bind /dev/null /etc/resolv.conf"), id: "dns", status: "warn", hint: "/etc/resolv.conf"},
		{name: "no place", env: []string{"XDG_STATE_HOME=/proc/nowhere"}, id: "store", status: "fail", errno: "ENOENT", hint: "XDG_STATE_HOME=DIR"},
		{name: "unwritable place", user: "user", env: []string{"XDG_STATE_HOME=/usr"}, id: "store", status: "fail", errno: "EACCES", hint: "XDG_STATE_HOME=DIR"},
	}
	list = append(list, trouble{name: "claude elsewhere", env: []string{"CLAUDE_PATH=/nowhere/claude"}, id: "claude", status: "warn", errno: "ENOENT", hint: "CLAUDE_PATH"})
	const own = `echo 'cacert = "/etc/hostname"' > "$HOME/.curlrc"; exec "$@"`
	list = append(list, trouble{name: "curl with its own roots", in: []string{"sh", "-ec", own, "sh"}, id: "trust-curl", status: "warn", hint: "does not accept"})
	const full = `mkdir -p "$XDG_STATE_HOME"; mount -t tmpfs -o size=64k,mode=1777 none "$XDG_STATE_HOME"; head -c 64k /dev/zero > "$XDG_STATE_HOME/filler"`
	list = append(list, trouble{name: "full disk", wrap: script(ownMounts, full), id: "store", status: "fail", hint: "free some space"})
	return append(list, chroots()...)
}

// chroots are minimal trees with trace and /proc in them.
func chroots() []trouble {
	tree := func(mount, as string) []string {
		return script(ownMounts, "r=$(mktemp -d "+workDir+"/root-XXXXXX); "+mount+`
chmod 755 $r; mkdir -p $r/proc $r/dev $r/etc/ssl/certs $r`+workDir+`; cp /etc/hosts $r/etc
mount -t proc proc $r/proc; mount --rbind /dev $r/dev; mount --bind `+workDir+" $r"+workDir+`
exec chroot `+as+` $r "$@"`)
	}
	user := fmt.Sprintf("--userspec=%d:%d --groups=", ordinary.uid, ordinary.gid)
	const mounted = "mount -t tmpfs none $r"
	return []trouble{
		{name: "chroot", user: "user", wrap: tree("", user), as: []string{}, id: "userns", status: "fail", errno: "EPERM", hint: "chroot"},
		{name: "mounted chroot", user: "user", wrap: tree(mounted, user), as: []string{}, id: "userns", status: "fail", errno: "EPERM", hint: "chroot"},
		{name: "chroot", user: "root", wrap: tree("", ""), as: []string{}, id: "mounts", status: "fail", errno: "EINVAL", hint: "mount --bind DIR DIR"},
		{name: "mended chroot", user: "root", wrap: tree("mount --bind $r $r", ""), as: []string{}, id: "mounts", status: "pass"},
	}
}

// TestTroubles makes each trouble and wants of the doctor the right check with
// the right errno and what mends it, and of the run that it agrees.
func TestTroubles(t *testing.T) {
	need(t, "unshare", "setpriv", "bwrap", "ip", "chroot")
	for _, tr := range troubles(t) {
		for _, w := range both() {
			who, _, _ := strings.Cut(w.String(), ",")
			if tr.user != "" && tr.user != who {
				continue
			}
			t.Run(tr.name+"/"+who, func(t *testing.T) {
				if tr.wrap != nil {
					needRoot(t)
				}
				j := newJob(t, w)
				j.env = tr.env
				tr.try(t, j)
			})
		}
	}
}

func (tr *trouble) try(t *testing.T, j *job) {
	ask := append([]string{traceBin, "namespace", "doctor", "--json"}, tr.args...)
	r := j.finish(tr.argv(j.w, ask...))
	report := readReport(t, j.w, r)
	i := slices.IndexFunc(report.Checks, func(c check) bool { return c.ID == tr.id })
	if i < 0 {
		t.Fatalf("no check %s", tr.id)
	}
	c := report.Checks[i]
	if c.Status != tr.status || c.Errno != tr.errno || !strings.Contains(c.Hint, tr.hint) || !strings.Contains(c.Hint, tr.mend) {
		t.Errorf("%+v", c)
	}
	without := slices.Contains([]string{"userns", "netns", "mntns", "mounts", "device"}, tr.id) && tr.status == "fail"
	if strings.Contains(c.Hint, "\nwithout namespaces, for programs that obey proxy variables: trace run --proxy -- CMD") != without {
		t.Errorf("hint %q", c.Hint)
	}
	if failed := tr.status == "fail"; report.OK == failed {
		t.Errorf("ok is %v: %+v", report.OK, report.Checks)
	}
	if tr.id == "device" {
		if want := map[string]string{"warn": "veth", "fail": ""}[tr.status]; report.Device != want {
			t.Errorf("device %q, want %q", report.Device, want)
		}
	}
	tr.agrees(t, j, c)
	if tr.mend == "" {
		return
	}
	j.env = append(j.env, "MEND="+asRoot(tr.mend))
	r = j.must(j.finish(tr.argv(j.w, ask...)), 0)
	report = readReport(t, j.w, r)
	if c := report.Checks[i]; c.Status != "pass" {
		t.Errorf("mended by %q: %+v", tr.mend, c)
	}
}

// asRoot turns advice into what root types, and a setting into what works
// without the program of that name.
func asRoot(mend string) string {
	mend = strings.ReplaceAll(mend, "sudo ", "")
	if setting, ok := strings.CutPrefix(mend, "sysctl -w "); ok {
		name, value, _ := strings.Cut(setting, "=")
		return "echo " + value + " > /proc/sys/" + strings.ReplaceAll(name, ".", "/")
	}
	return mend
}

// agrees runs a command on that machine: it runs if the doctor says so, and if
// not the error is one line, with the hints of the doctor's check c.
func (tr *trouble) agrees(t *testing.T, j *job, c check) {
	t.Helper()
	run := slices.Concat([]string{traceBin, "run", "--inspect", "--quiet"}, tr.args, []string{"--", traceBin, "version"})
	r := j.finish(tr.argv(j.w, run...))
	started := strings.HasPrefix(r.stdout, "trace ")
	if c.Status != "fail" {
		if r.code != 0 || !started || r.stderr != "" {
			t.Errorf("the run does not agree: exit %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
		}
		return
	}
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	var hints []string
	for _, hint := range strings.Split(c.Hint, "\n") {
		hints = append(hints, "trace: hint: "+hint)
	}
	if r.code != 125 || started || !slices.Equal(lines[1:], hints) {
		t.Errorf("the run does not agree with %q: exit %d, stdout %q, stderr %s", c.Hint, r.code, r.stdout, r.stderr)
	}
}

// TestDoctorNoProcesses: where RLIMIT_NPROC leaves no room the doctor says
// so, before Go's runtime ends for want of a thread.
func TestDoctorNoProcesses(t *testing.T) {
	needRoot(t) // for a user who runs nothing else
	need(t, "prlimit")
	j := newJob(t, both()[0])
	doctor := []string{traceBin, "namespace", "doctor", "--json"}
	tr := trouble{in: []string{"prlimit", "--nproc=24"}}
	report := readReport(t, j.w, j.must(j.finish(tr.argv(j.w, doctor...)), 1))
	c := report.Checks[0]
	if c.ID != "processes" || c.Status != "fail" || c.Errno != "EAGAIN" || !strings.Contains(c.Hint, "ulimit -u") {
		t.Errorf("%+v", c)
	}
	tr.in = []string{"prlimit", "--nproc=2000"} // mended
	j.must(j.finish(tr.argv(j.w, doctor...)), 0)
}

// TestDoctorInTime: a resolver that never answers does not keep the doctor.
func TestDoctorInTime(t *testing.T) {
	needRoot(t)
	need(t, "ip", "unshare")
	for _, w := range both() {
		j := newJob(t, w)
		resolv := j.file("resolv.conf", "nameserver 192.0.2.53\n")
		tr := trouble{wrap: script("--net "+ownMounts, `ip link set lo up; ip link add d0 type veth peer name d1; ip link set d0 arp off; ip link set d1 up; ip addr add 192.0.2.1/24 dev d0
ip link set d0 up; ip route add default dev d0; mount --bind "$1" /etc/resolv.conf; shift`, resolv)}
		r := j.must(j.finish(tr.argv(w, traceBin, "namespace", "doctor", "--json")), 0)
		readReport(t, w, r)
		t.Logf("%s: %v", w, r.took)
		if r.took > 3*time.Second+slack {
			t.Errorf("%s: the doctor took %v", w, r.took)
		}
	}
}

// slack is what a machine that is busy with other tests may add.
const slack = 2 * time.Second

// TestContainerRoot: root without CAP_SYS_ADMIN gets a user namespace that has
// all of its ids, so that it can become others.
func TestContainerRoot(t *testing.T) {
	needRoot(t)
	need(t, "setpriv", "su", "curl")
	o := serve(t, nil, nil)
	for _, bounds := range []string{
		"-sys_admin", "-sys_admin,-net_admin",
		"-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap", // Docker's
	} {
		j := newJob(t, world{true, "wireguard", "auto"})
		tr := trouble{in: []string{"setpriv", "--bounding-set=" + bounds, "--inh-caps=-all", "--"}}
		owned := j.file("owned", "")
		const look = `cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; id -u
su nobody -s /bin/sh -c 'id -un; id -u'; chown 1234:4321 "$1"; stat -c %u:%g "$1"; curl -sS "http://$2/text"`
		r := j.must(j.finish(tr.argv(j.w, traceBin, "run", "--inspect", "--connect-to", host+":80:127.0.0.1:"+o.port, "--", "sh", "-ec", look, "sh", owned, host)), 0)
		plain := j.must(j.finish([]string{"cat", "/proc/self/uid_map", "/proc/self/gid_map"}), 0)
		got, want := strings.Fields(r.stdout), append(strings.Fields(plain.stdout), "allow", "0", "nobody", "65534", "1234:4321", "hello", "from", "/text")
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", bounds, got, want)
		}
		if rows := j.flows("--kind", "http"); len(rows) != 1 {
			t.Errorf("%s: %+v", bounds, rows)
		}
		report := readReport(t, j.w, j.must(j.finish(tr.argv(j.w, traceBin, "namespace", "doctor", "--json")), 0))
		if i := slices.IndexFunc(report.Checks, func(c check) bool { return c.ID == "userns" }); report.Checks[i].Status != "pass" {
			t.Errorf("%+v", report.Checks[i])
		}
	}
}

// TestContainerRanges: a container whose ids are several ranges of the host's
// keeps them all, at their places.
func TestContainerRanges(t *testing.T) {
	needRoot(t)
	need(t, "setpriv")
	j := newJob(t, world{true, "wireguard", "auto"})
	const look = `cat /proc/self/uid_map; stat -c %u "$1" "$2"; chown 1005 "$2"; stat -c %u "$2"; setpriv --reuid=1005 --regid=1005 --clear-groups id -u`
	far, near := j.file("far", ""), j.file("near", "")
	if err := os.Chown(far, 300_005, 300_005); err != nil {
		t.Fatal(err)
	}
	c := j.command("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", "--",
		traceBin, "run", "--inspect", "--quiet", "--", "sh", "-ec", look, "sh", far, near)
	ranges := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1000}, {ContainerID: 1000, HostID: 300_000, Size: 500}, {ContainerID: 65534, HostID: 65534, Size: 1}}
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: ranges, GidMappings: ranges, GidMappingsEnableSetgroups: true}
	got := strings.Fields(j.must(j.done(c), 0).stdout)
	want := strings.Fields("0 0 1000 1000 1000 500 65534 65534 1 1005 0 1005 1005")
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
