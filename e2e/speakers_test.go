package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Greetings of servers that speak first.
const (
	smtpGreeting  = "220 mail.origin.example ESMTP ready\r\n"
	mysqlGreeting = "\x4a\x00\x00\x00\x0a8.0.36\x00\x0b\x00\x00\x00abcdefgh\x00\xff\xf7\xff\x02\x00\xff\xdf\x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00ijklmnopqrst\x00caching_sha2_password\x00"
)

// TestSpeakFirst: a server that speaks first is heard at once, and named.
func TestSpeakFirst(t *testing.T) {
	need(t, "/usr/bin/python3")
	const py = `import socket,sys,time
best=9
for i in range(5):
  s=socket.create_connection((sys.argv[1],int(sys.argv[2]))); t=time.time(); d=s.recv(500); best=min(best,time.time()-t)
  s.sendall(b"QUIT\r\n"); assert s.recv(500)==b"221 bye\r\n"; s.close()
print(len(d), int(best*1000))`
	for _, c := range []struct{ name, port, greeting string }{
		{"smtp", "25", smtpGreeting},
		{"mysql", "3306", mysqlGreeting},
	} {
		for _, w := range both() {
			t.Run(c.name+"/"+w.String(), func(t *testing.T) {
				port := listenRaw(t, func(conn net.Conn) {
					io.WriteString(conn, c.greeting)
					io.ReadFull(conn, make([]byte, 6))
					io.WriteString(conn, "221 bye\r\n")
					io.Copy(io.Discard, conn)
				})
				j := newJob(t, w)
				r := j.must(j.inspect([]string{"--connect-to", host + ":" + c.port + ":127.0.0.1:" + port}, "/usr/bin/python3", "-c", py, host, c.port), 0)
				var size, ms int
				if fmt.Sscan(r.stdout, &size, &ms); size != len(c.greeting) {
					t.Errorf("%q", r.stdout)
				}
				if ms > 150 {
					t.Errorf("the greeting took %d ms: it was held back", ms)
				}
				rows := j.flows("--kind", "tcp")
				if len(rows) != 5 {
					t.Fatalf("%d rows: %+v", len(rows), rows)
				}
				for _, r := range rows {
					want := int64(len(c.greeting) + len("221 bye\r\n"))
					if r.Conn.Protocol != c.name || r.State != "complete" || r.Error != nil || r.Bytes == nil || r.Bytes.Sent != 6 || r.Bytes.Received != want {
						t.Errorf("recorded as %q, %s %+v, %+v", r.Conn.Protocol, r.State, r.Error, r.Bytes)
					}
				}
			})
		}
	}
}

// TestSSH logs in to a real sshd.
func TestSSH(t *testing.T) {
	need(t, "ssh", "ssh-keygen", "/usr/sbin/sshd")
	for _, w := range both() {
		t.Run(w.String(), func(t *testing.T) {
			j := newJob(t, w)
			port, who, key := startSSH(t)
			mine := filepath.Join(j.home, "id")
			b, err := os.ReadFile(key)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(mine, b, 0o600); err != nil {
				t.Fatal(err)
			}
			j.own(mine)
			r := j.must(j.inspect([]string{"--connect-to", host + ":22:127.0.0.1:" + port}, "ssh", "-F", "none", "-i", mine, "-o", "StrictHostKeyChecking=no",
				"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "BatchMode=yes", who+"@"+host, "echo hello; cat; head -c 300000 /dev/zero"), 0)
			if !strings.HasPrefix(r.stdout, "hello\n") || len(r.stdout) != 300006 {
				t.Errorf("%d bytes: %.100q", len(r.stdout), r.stdout)
			}
			rows := j.flows("--kind", "tcp")
			if len(rows) != 1 || rows[0].Conn.Protocol != "ssh" || rows[0].Bytes == nil || rows[0].Bytes.Received < 300000 || rows[0].Error != nil {
				t.Errorf("%+v", rows)
			}
		})
	}
}

// startSSH runs sshd for whoever runs the tests and returns its port, that
// user and a private key that it takes.
func startSSH(t *testing.T) (port, who, key string) {
	t.Helper()
	dir := t.TempDir()
	key = filepath.Join(dir, "user")
	for _, name := range []string{"user", "host"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v: %s", err, out)
		}
	}
	if os.Getuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd's own, empty
			t.Fatal(err)
		}
	}
	out, err := exec.Command("id", "-un").Output()
	if err != nil {
		t.Fatal(err)
	}
	who, port = strings.TrimSpace(string(out)), closedPort(t, nil, nil)
	conf := filepath.Join(dir, "conf")
	text := fmt.Sprintf("ListenAddress 127.0.0.1\nPort %s\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n", port, dir, dir)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", conf))
	awaitPort(t, port)
	return port, who, key
}

// start runs a server until the test ends.
func start(t *testing.T, c *exec.Cmd) {
	t.Helper()
	var said strings.Builder
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Signal(os.Interrupt)
		c.Wait()
		if t.Failed() {
			t.Logf("%s: %.2000s", c.Path, said.String())
		}
	})
}

// awaitPort waits until somebody listens on a port of loopback.
func awaitPort(t *testing.T, port string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody listens on port %s: %v", port, err)
		}
	}
}

// TestPostgreSQL asks a real server, which answers the client's SSLRequest
// with N, or with S and TLS of an authority of ours.
func TestPostgreSQL(t *testing.T) {
	need(t, "psql")
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		t.Skip("needs postgresql")
	}
	bin := filepath.Dir(found[len(found)-1])
	ca := newAuthority(t, "e2e authority")
	for _, secure := range []bool{false, true} {
		port := startPostgres(t, bin, ca, secure)
		for _, w := range both() {
			t.Run(fmt.Sprintf("ssl=%v/%s", secure, w), func(t *testing.T) {
				j := newJob(t, w)
				j.env = append(j.env, "PGSSLMODE=prefer", "PGUSER=me", "PGDATABASE=postgres", "PGCONNECT_TIMEOUT=20")
				start := time.Now()
				r := j.must(j.inspect([]string{"--upstream-ca", j.file("root.pem", ca.pem()), "--connect-to", host + ":5432:127.0.0.1:" + port},
					"psql", "-h", host, "-Atc", "select count(*), sum(x) from generate_series(1,20000) x; select repeat('r', 100000)"), 0)
				if !strings.HasPrefix(r.stdout, "20000|200010000\n") || len(r.stdout) != len("20000|200010000\n")+100001 {
					t.Errorf("%d bytes: %.100q", len(r.stdout), r.stdout)
				}
				rows := j.flows("--kind", "tcp")
				if len(rows) != 1 {
					t.Fatalf("%d rows in %v: %+v", len(rows), time.Since(start), rows)
				}
				x := rows[0]
				// psql leaves without reading the end of TLS, and so may reset.
				left := x.Error == nil || x.Error.Code == "reset" && x.Error.Where == "client"
				if x.Conn.Protocol != "postgres" || !left || x.Bytes == nil || x.Bytes.Received < 100000 {
					t.Errorf("%+v %+v %+v", x.Conn, x.Bytes, x.Error)
				}
			})
		}
	}
}

// startPostgres makes a cluster that trusts all and runs it, as the ordinary
// user: it does not run as root.
func startPostgres(t *testing.T, bin string, ca *authority, secure bool) (port string) {
	t.Helper()
	j := newJob(t, world{false, "", ""})
	data := filepath.Join(j.home, "data")
	j.must(j.run(filepath.Join(bin, "initdb"), "-D", data, "-U", "me", "-A", "trust", "--no-sync"), 0)
	port = closedPort(t, nil, nil)
	argv := []string{filepath.Join(bin, "postgres"), "-D", data, "-p", port, "-k", j.home, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"}
	if secure {
		cert, key := ca.files(j, "postgres", host)
		argv = append(argv, "-c", "ssl=on", "-c", "ssl_cert_file="+cert, "-c", "ssl_key_file="+key)
	}
	c := j.command(argv...)
	start(t, exec.Command(c.Args[0], c.Args[1:]...))
	awaitPostgres(t, j, port)
	return port
}

// awaitPostgres waits until the server takes queries.
func awaitPostgres(t *testing.T, j *job, port string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if r := j.run("psql", "-h", "127.0.0.1", "-p", port, "-U", "me", "-d", "postgres", "-Atc", "select 1"); r.code == 0 {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("postgres does not answer: %s", r.stderr)
		}
	}
}

// files writes a certificate for names and its key where the job can read
// them.
func (a *authority) files(j *job, base string, names ...string) (cert, key string) {
	j.t.Helper()
	leaf := a.leaf(j.t, names, nil)
	cert = j.file(base+".crt", encode("CERTIFICATE", leaf.Certificate[0]))
	key = j.file(base+".key", encode("PRIVATE KEY", pkcs8(j.t, leaf)))
	if err := os.Chmod(key, 0o600); err != nil {
		j.t.Fatal(err)
	}
	return cert, key
}
