package e2e

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ownTrust runs argv with copies of the files by which this machine trusts
// authorities: whatever is done to them, the machine stays as it was. The hook
// by which Debian keeps Java's keystore is one that writes down what it is told.
func ownTrust(argv ...string) []string {
	const script = `set -e
d=$(mktemp -d); mount -t tmpfs none "$d"
for p in /etc/ssl /usr/local/share/ca-certificates; do
	mkdir -p "$d$p"; cp -a "$p/." "$d$p"; mount --bind "$d$p" "$p"
done
mkdir "$d/hooks"; printf '#!/bin/sh\ncat >>"$HOME/hook"\n' >"$d/hooks/jks-keystore"; chmod 755 "$d/hooks/jks-keystore"
mount --bind "$d/hooks" /etc/ca-certificates/update.d
umount -l "$d"; rmdir "$d"
exec "$@"`
	return append([]string{"unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"}, argv...)
}

// trustState prints everything that is in the system's trust store.
const trustState = `cd /etc/ssl/certs; find . /usr/local/share/ca-certificates -printf '%p %l %m\n' | sort; sha256sum ca-certificates.crt
`

// keptAuthority reads the authority that trace keeps for the job.
func keptAuthority(t *testing.T, j *job) *authority {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(j.home, "state/trace/ca/key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	cert, rest := pem.Decode(data)
	key, _ := pem.Decode(rest)
	a := &authority{}
	if a.cert, err = x509.ParseCertificate(cert.Bytes); err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(key.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	a.key = parsed.(*ecdsa.PrivateKey)
	return a
}

// TestLastingAuthority: what `ca install` does makes real clients accept a
// server of the authority, and `ca uninstall` leaves nothing of it behind, also
// not of one that was rotated away.
func TestLastingAuthority(t *testing.T) {
	needRoot(t)
	need(t, "update-ca-certificates", "curl", "wget", "openssl", "node", "jq", "unshare")
	j := newJob(t, world{true, "wireguard", "auto"})
	r := j.must(j.trace("ca", "install"), 0) // nobody is asked, so only the authority is made
	if !strings.Contains(r.stdout, "\nupdate-ca-certificates\n") || !strings.Contains(r.stderr, "nothing was done") {
		t.Errorf("%s%s", r.stdout, r.stderr)
	}
	ca := keptAuthority(t, j)
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{ca.leaf(t, []string{host}, nil)}}, nil)
	clients := j.file("clients", `
at=https://`+host+`:`+o.port+`/text
say() { name=$1; shift; if "$@" >out 2>&1 && grep -q "hello from /text" out; then echo "$name yes"; else echo "$name no"; fi; }
say curl curl -sS --resolve `+host+`:`+o.port+`:127.0.0.1 $at
printf '127.0.0.1 `+host+`\n' >hosts; cat /etc/hosts >>hosts; mount --bind hosts /etc/hosts
say wget wget -qO- $at
say python /usr/bin/python3 -c 'import sys,urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())' $at
say openssl sh -c 'printf "GET /text HTTP/1.0\r\nHost: `+host+`\r\n\r\n" | openssl s_client -quiet -verify_return_error -verify_hostname `+host+` -connect 127.0.0.1:`+o.port+` -servername `+host+`'
say node env NODE_EXTRA_CA_CERTS="$("$T" ca show --json 2>/dev/null | jq -r .file)" node -e 'require("https").get(process.argv[1], r => r.pipe(process.stdout)).on("error", e => { console.error(e); process.exit(1) })' $at
umount /etc/hosts
`)
	all := j.file("all", `set -e
exec 2>&1
update-ca-certificates --fresh >/dev/null 2>&1; rm -f hook # as the tool would leave it
mark() { echo "== $*"; }
sh "$STATE" >before
mark before; sh "$CLIENTS"
mark install; "$T" ca install --yes --nss=db >log; cat log
mark installed; sh "$CLIENTS"; "$T" ca show --json
sh "$STATE" >once; mark again; "$T" ca install --yes --nss=db
sh "$STATE" >twice; cmp once twice && mark idempotent
"$T" ca rotate; "$T" ca install --yes >/dev/null
sh "$STATE" >both; mark both "$(grep -c '^[.]/trace-ca-' both)"
"$T" ca uninstall --yes --old; mark old "$(sh "$STATE" | grep -c '^[.]/trace-ca-')"
mark uninstall; "$T" ca uninstall --yes
sh "$STATE" >after; diff before after && mark as before; mark nothing; "$T" ca uninstall --yes
mark gone; sh "$CLIENTS"
ls db 2>&1 || true; cat hook
`)
	j.env = append(j.env, "T="+traceBin, "CLIENTS="+clients, "STATE="+j.file("state.sh", trustState))
	j.env = append(j.env, "TRACE_CA_PASSPHRASE=")
	r = j.must(j.run(ownTrust("sh", all)...), 0)
	part := map[string]string{}
	for _, p := range strings.Split("\n"+r.stdout, "\n== ") {
		name, text, _ := strings.Cut(p, "\n")
		part[name] = text
	}
	const yes, no = "curl yes\nwget yes\npython yes\nopenssl yes\nnode yes\n", "curl no\nwget no\npython no\nopenssl no\nnode yes\n"
	if part["before"]+"\n" != no || !strings.HasPrefix(part["installed"], yes) {
		t.Errorf("before %q, installed %q", part["before"], part["installed"])
	}
	if !strings.HasPrefix(part["gone"], "curl no\nwget no\npython no\nopenssl no\n") || !strings.Contains(part["gone"], "cannot access 'db'") {
		t.Errorf("gone: %q", part["gone"])
	}
	for _, name := range []string{"idempotent", "both 2", "old 1", "as before"} {
		if _, ok := part[name]; !ok {
			t.Errorf("not %s:\n%s", name, r.stdout)
		}
	}
	if !strings.Contains(part["nothing"], "nothing is installed") || strings.Count(part["again"], "has it already") != 2 || strings.Contains(part["again"], "update-ca-certificates") {
		t.Errorf("nothing: %q, again: %q", part["nothing"], part["again"])
	}
	var shown struct{ Installed []struct{ Kind, Path string } }
	_, text, _ := strings.Cut(part["installed"], "{")
	if err := json.Unmarshal([]byte("{"+text), &shown); err != nil || len(shown.Installed) != 2 || shown.Installed[0].Kind != "system" || shown.Installed[1].Kind != "nss" {
		t.Errorf("%v: %q", err, text)
	}
	// What went is told to those who keep keystores.
	if _, told, _ := strings.Cut(part["gone"], "+/"); strings.Count(told, "\n-/etc/ssl/certs/trace-ca-") != 2 {
		t.Errorf("the hook was told %q", told)
	}
	if out, err := exec.Command("sh", "-c", "ls /usr/local/share/ca-certificates /etc/ssl/certs | grep trace-ca-").Output(); err == nil {
		t.Errorf("left on this machine: %s", out)
	}
}

// TestInstallByOthers: who is not root does it by sudo, with just the commands
// that were shown; where that changes nothing it is said.
func TestInstallByOthers(t *testing.T) {
	need(t, "update-ca-certificates")
	j := newJob(t, world{false, "wireguard", "auto"})
	j.w.device = "" // no TUN is wanted
	if _, err := exec.LookPath("sudo"); err != nil {
		if _, err := exec.LookPath("doas"); err != nil {
			r := j.must(j.trace("ca", "install", "--yes"), 1)
			if !strings.Contains(r.stderr, "neither sudo nor doas") || !strings.Contains(r.stdout, "\nupdate-ca-certificates\n") {
				t.Errorf("%s%s", r.stdout, r.stderr)
			}
		}
	}
	bin := filepath.Join(j.home, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(j.file("bin/sudo", "#!/bin/sh\necho sudo \"$@\" >>\"$HOME/done\"; env >>\"$HOME/seen\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	j.env = append(j.env, "PATH="+bin+":"+os.Getenv("PATH"), "TRACE_CA_PASSPHRASE=not for others")
	r := j.must(j.trace("ca", "install", "--yes"), 1)
	if !strings.Contains(r.stderr, "does not have it after all") {
		t.Errorf("%s", r.stderr)
	}
	done := j.text("done")
	if !strings.Contains(r.stdout, "\n"+done+"\n") || strings.Count(done, "\n") != 1 || !strings.HasPrefix(done, "sudo install -m 0644 "+j.home) {
		t.Errorf("shown:\n%s\ndone:\n%s", r.stdout, done)
	}
	if strings.Contains(j.text("seen"), "not for others") {
		t.Error("the passphrase was handed on")
	}
	if r := j.must(j.trace("ca", "uninstall", "--yes"), 0); !strings.Contains(r.stdout, "nothing is installed") {
		t.Errorf("%s", r.stdout)
	}
}

// TestPassphraseOnTerminal: it is asked for without being shown, whatever
// standard input is, and an interrupt leaves the terminal as it was.
func TestPassphraseOnTerminal(t *testing.T) {
	s := newScreen(t, both()[0])
	s.start(traceBin + " ca rotate --encrypt </dev/null >made")
	s.shows("New passphrase")
	s.line("open sesame")
	s.shows("The same again")
	s.line("open sesam")
	s.exited(1)
	s.shows("two different")
	if _, err := os.Stat(filepath.Join(s.home, "state/trace/ca/key.pem")); err == nil {
		t.Error("made all the same")
	}
	s.start(traceBin + " ca rotate --encrypt </dev/null >made")
	s.shows("New passphrase")
	s.line("open sesame")
	s.shows("The same again")
	s.line("open sesame")
	s.exited(0)
	s.start(traceBin + " ca passphrase --remove")
	s.shows("Passphrase of")
	s.keys("C-c")
	s.exited(130)
	s.runs("stty -a | grep -q ' echo '", 0)
	s.start(traceBin + " ca passphrase --remove")
	s.shows("Passphrase of")
	s.line("closed sesame")
	s.exited(1)
	s.shows("wrong passphrase")
	if seen := s.tmux("capture-pane", "-p", "-S", "-"); strings.Contains(seen, "sesame") {
		t.Errorf("it is shown:\n%s", seen)
	}
	s.start(traceBin + " ca passphrase --remove")
	s.shows("Passphrase of")
	s.line("open sesame")
	s.exited(0)
	r := s.must(s.trace("ca", "rotate"), 0)
	if s.must(s.trace("ca", "show"), 0); r.stderr != "" {
		t.Errorf("%s", r.stderr)
	}
	s.start(traceBin + " ca install")
	s.shows("[y/N]")
	s.line("n")
	s.exited(1)
	s.shows("nothing was done")
}

// TestServeLasting: one serve after another signs with the same authority, whose
// key is under a passphrase, and a client that trusts it by the system's store
// alone accepts what they show.
func TestServeLasting(t *testing.T) {
	needRoot(t)
	need(t, "update-ca-certificates", "curl", "unshare")
	origin := newAuthority(t, "the origin's")
	o := serve(t, &tls.Config{Certificates: []tls.Certificate{origin.leaf(t, []string{host}, nil)}}, nil)
	j := newJob(t, world{true, "wireguard", "auto"})
	args := []string{"--listen", "none", "--proxy", "127.0.0.1:0", "--upstream-ca", j.file("root.pem", origin.pem()), "--connect-to", host + ":443:127.0.0.1:" + o.port}
	j.env = append(j.env, "TRACE_CA_PASSPHRASE=open sesame", "T="+traceBin)
	first := j.serving(args...)
	kept := j.text("state/trace/ca/ca.pem")
	first.stop()
	if key := j.text("state/trace/ca/key.pem"); strings.Contains(key, "PRIVATE KEY") {
		t.Errorf("the key is plain:\n%s", key)
	}
	s := j.serving(args...)
	const ask = `"$T" ca install --yes >/dev/null 2>&1; curl -sS -x "http://phone@$1" "$2"`
	r := j.must(j.run(ownTrust("sh", "-c", ask, "sh", strings.TrimPrefix(s.url("proxy"), "http://"), "https://"+host+"/text")...), 0)
	if !strings.HasPrefix(r.stdout, "hello from /text\n") {
		t.Errorf("%q %q", r.stdout, r.stderr)
	}
	s.stop()
	rows := j.flows("--kind", "http", "--session", "phone")
	if len(rows) != 1 || !rows[0].Conn.Decrypted || rows[0].Response == nil || rows[0].Response.Status != 200 {
		t.Errorf("%+v", rows)
	}
	if now := j.text("state/trace/ca/ca.pem"); now != kept {
		t.Error("it is another authority")
	}
	for _, c := range []struct{ word, want string }{{"TRACE_CA_PASSPHRASE=close sesame", "wrong passphrase"}, {"TRACE_CA_PASSPHRASE=", "--passphrase-file"}} {
		j.env = append(j.env, c.word)
		r := j.run(append([]string{"setsid", "--wait", traceBin, "serve"}, args...)...) // where no terminal is
		if r.code == 0 || !strings.Contains(r.stderr, c.want) || strings.Contains(r.stderr, "sesame") {
			t.Errorf("%s: exit %d, %s", c.word, r.code, r.stderr)
		}
	}
}
