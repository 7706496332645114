package mitm

import (
	"bufio"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"
)

const (
	mysqlHello   = "\x4a\x00\x00\x00\x0a8.0.36\x00\x0b\x00\x00\x00abcdefgh\x00\xff\xff\xff\x02\x00\xff\xdf\x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00abcdefghijkl\x00caching_sha2_password\x00"
	mysqlTLSAsk  = "\x20\x00\x00\x01\x05\xae\x0f\x00\x00\x00\x00\x01\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	postgresAsk  = "\x00\x00\x00\x08\x04\xd2\x16\x2f"
	mongoHello   = "\x2f\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00\x00\x00\x00\x00\x00\x1a\x00\x00\x00"
	ldapBindName = "\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00"
)

func TestLabel(t *testing.T) {
	for _, v := range []struct{ name, client, server string }{
		{"ssh", "", "SSH-2.0-OpenSSH_9.2\r\n"},
		{"ssh", "SSH-2.0-Go\r\n", ""},
		{"postgres", postgresAsk, ""},
		{"postgres", "\x00\x00\x00\x08\x04\xd2\x16\x30", ""},
		{"postgres", "\x00\x00\x00\x10\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02", ""},
		{"postgres", "\x00\x00\x00\x12\x00\x03\x00\x00user\x00me\x00\x00\x00", ""},
		{"", "\x00\x00\x00\x12\x00\x03\x00\x00person\x00me\x00\x00", ""},
		{"", "\x00\x00\x00\x09\x04\xd2\x16\x2f", ""},
		{"mysql", "", mysqlHello},
		{"mysql", "", "\x60\x00\x00\x00\x0a5.5.5-10.11.6-MariaDB-0+deb12u1\x00\x0b\x00\x00\x00abcdefgh\x00"},
		{"mysql", "", "\x17\x00\x00\x00\xff\x10\x04Too many connections"},
		{"", "", "\x4a\x00\x00\x01\x0a8.0.36\x00"},
		{"redis", "*1\r\n$4\r\nPING\r\n", ""},
		{"redis", "PING\r\n", "+PONG\r\n"},
		{"", "*1\r\nPING\r\n", ""},
		{"mongodb", mongoHello, ""},
		{"smtp", "", "220 mail.test ESMTP Postfix\r\n"},
		{"smtp", "", "220-mail.test ESMTP\r\n"},
		{"smtp", "EHLO me\r\n", "220 mail.test ready\r\n"},
		{"", "", "220 mail.test ready\r\n"},
		{"ftp", "", "220 (vsFTPd 3.0.3)\r\n"},
		{"ftp", "USER me\r\n", "220 welcome\r\n"},
		{"imap", "", "* OK [CAPABILITY IMAP4rev1] ready\r\n"},
		{"pop3", "", "+OK POP3 ready\r\n"},
		{"pop3", "CAPA\r\n", "+OK\r\n"},
		{"", "SET a b\r\n", "+OK\r\n"},
		{"nntp", "", "200 news.test InterNetNews NNRP server ready\r\n"},
		{"amqp", "AMQP\x00\x00\x09\x01", ""},
		{"mqtt", "\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd", ""},
		{"mqtt", "\x10\x80\x01\x00\x06MQIsdp\x03", ""},
		{"ldap", ldapBindName, ""},
		{"ldap", "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037", ""},
		{"nats", "", `INFO {"server_id":"N"}` + "\r\n"},
		{"memcached", "get a\r\n", "END\r\n"},
		{"memcached", "\x80\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", ""},
		{"", "get a\r\n", ""},
		{"kafka", "\x00\x00\x00\x0e\x00\x12\x00\x00\x00\x00\x00\x01\x00\x04test", ""},
		{"git", "0032git-upload-pack /project.git\x00host=myserver.com\x00", ""},
		{"irc", "NICK me\r\nUSER me 0 * :me\r\n", ""},
		{"irc", "", "NOTICE AUTH :*** Looking up\r\n"},
		{"xmpp", "<?xml version='1.0'?><stream:stream to='a' xmlns:stream='http://etherx.jabber.org/streams'>", ""},
		{"vnc", "", "RFB 003.008\n"},
		{"rdp", "\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00", ""},
		{"rdp", "\x03\x00\x00\x2b\x26\xe0\x00\x00\x00\x00\x00Cookie: mstshash=me\r\n\x01\x00\x08\x00\x03\x00\x00\x00\x00\x00\x00", ""},
		{"", "\x03\x00\x00\x16\x11\xe0\x00\x00\x00\x01\x00\xc0\x01\x0a\xc1\x02\x01\x00\xc2\x02\x01\x02", ""},
		{"smb", "\x00\x00\x00\x45\xffSMBr\x00", ""},
		{"smb", "\x00\x00\x00\x45\xfeSMB@\x00", ""},
		{"tds", "\x12\x01\x00\x2f\x00\x00\x01\x00\x00\x00\x1a\x00\x06\x01\x00\x20\x00\x01\xff\x00", ""},
		{"tns", "\x00\x3a\x00\x00\x01\x00\x00\x00(DESCRIPTION=(CONNECT_DATA=(SERVICE_NAME=x)))", ""},
		{"cql", "\x04\x00\x00\x00\x05\x00\x00\x00\x00", ""},
		{"socks5", "\x05\x01\x00", ""},
		{"socks5", "\x05\x02\x00\x02", ""},
		{"socks4", "\x04\x01\x00\x50\xc0\x00\x02\x01me\x00", ""},
		{"rsync", "", "@RSYNCD: 31.0\n"},
		{"svn", "", "( success ( 2 2 ( ) ( edit-pipeline ) ) ) "},
		{"rtsp", "OPTIONS rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n", ""},
		{"sip", "REGISTER sip:a SIP/2.0\r\n", ""},
		{"stomp", "CONNECT\naccept-version:1.2\n\n\x00", ""},
		{"jdwp", "JDWP-Handshake", ""},
		{"zookeeper", "ruok", ""},
		{"nsq", "  V2", ""},
		{"zmtp", "\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f", ""},
		{"telnet", "", "\xff\xfd\x18\xff\xfd\x20"},
		{"bittorrent", "\x13BitTorrent protocol\x00", ""},
		{"", "", ""},
		{"", "\x00\x00\x00", "hello\r\n"},
		{"", "\x30\x80\x30\x80", ""},
	} {
		if got := label([]byte(v.client), []byte(v.server)); got != v.name {
			t.Errorf("%q, %q: %q, want %q", v.client, v.server, got, v.name)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 50_000 { // never panics
		p := make([]byte, r.IntN(40))
		for i := range p {
			p[i] = byte(r.Uint32())
		}
		seeds := []string{"", "\x30", "\x10", "\x80", "\x03\x00", "AMQP", "\x05", "\x12\x01", "\x00\x00\x00"}
		label(append([]byte(seeds[r.IntN(len(seeds))]), p...), p)
	}
}

// prompt bounds how long something may take that must not wait for patience.
const prompt = patience / 2

// TestPrompt: neither a server that speaks first nor a client of another
// protocol is held up while we wonder what it is.
func TestPrompt(t *testing.T) {
	for _, v := range []struct{ name, client, server string }{
		{"ssh", "", "SSH-2.0-x\r\n"}, {"mysql", "", mysqlHello}, {"smtp", "", "220 x ESMTP\r\n"}, {"", "", "hello"},
		{"postgres", postgresAsk, ""}, {"redis", "*1\r\n$4\r\nPING\r\n", ""}, {"mongodb", mongoHello, ""}, {"ldap", ldapBindName, ""},
		{"amqp", "AMQP\x00\x00\x09\x01", ""}, {"mqtt", "\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd", ""},
		{"git", "0032git-upload-pack /project.git\x00host=myserver.com\x00", ""}, {"jdwp", handshakeJDWP, ""}, {"zookeeper", "ruok", ""},
		{"nsq", "  V2", ""}, {"socks5", "\x05\x01\x00", ""}, {"kafka", "\x00\x00\x00\x0e\x00\x12\x00\x00\x00\x00\x00\x01\x00\x04test", ""},
		{"", "\x00", ""}, {"", "get a\r\n", ""},
	} {
		t.Run(v.name, func(t *testing.T) {
			r := newRoad(t, listen(t, func(c net.Conn) {
				io.WriteString(c, v.server)
				io.Copy(c, c)
			}), nil)
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			start := time.Now()
			io.WriteString(c, v.client)
			want := v.client + v.server
			b := make([]byte, len(want))
			if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
				t.Fatalf("%q, %v", b, err)
			}
			if d := time.Since(start); d > prompt {
				t.Errorf("held up for %v", d)
			}
			c.Close()
			facts, _ := r.wait()
			if facts.Protocol != v.name || facts.Opaque != ReasonNotHTTP {
				t.Errorf("recorded %q, %s", facts.Protocol, facts.Opaque)
			}
		})
	}
}

// TestLaterLabel: what the first bytes leave open is told by the next.
func TestLaterLabel(t *testing.T) {
	r := newRoad(t, listen(t, func(c net.Conn) {
		io.WriteString(c, "22")
		io.ReadFull(c, make([]byte, 1))
		io.WriteString(c, "0 ready\r\n")
		bufio.NewReader(c).ReadString('\n')
	}), nil)
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.ReadFull(c, make([]byte, 2))
	io.WriteString(c, "EH")
	io.ReadFull(c, make([]byte, 9))
	io.WriteString(c, "LO me\r\n")
	io.ReadAll(c)
	c.Close()
	if facts, _ := r.wait(); facts.Protocol != "smtp" {
		t.Errorf("recorded %q", facts.Protocol)
	}
}

// TestInnerTLS: TLS that begins within another protocol is carried, and what it
// says in the clear is recorded.
func TestInnerTLS(t *testing.T) {
	for _, v := range []struct {
		name string
		says []string // by turns, the server first
	}{
		{"postgres", []string{"", postgresAsk, "S"}},
		{"mysql", []string{mysqlHello, mysqlTLSAsk}},
		{"smtp", []string{"220 x ESMTP\r\n", "STARTTLS\r\n", "220 go\r\n"}},
		{"imap", []string{"* OK\r\n", "a STARTTLS\r\n", "a OK\r\n"}},
	} {
		t.Run(v.name, func(t *testing.T) {
			r := newRoad(t, listen(t, func(c net.Conn) {
				for i, s := range v.says {
					if i%2 == 0 {
						io.WriteString(c, s)
					} else if _, err := io.ReadFull(c, make([]byte, len(s))); err != nil {
						return
					}
				}
				s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}, MaxVersion: tls.VersionTLS12})
				io.Copy(s, s)
				s.Close()
			}), nil)
			conn, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			c := &through{TCPConn: conn.(*net.TCPConn)}
			start := time.Now()
			for i, s := range v.says {
				if i%2 == 1 && i == len(v.says)-1 {
					c.pending = s // with the ClientHello
				} else if i%2 == 1 {
					io.WriteString(c, s)
				} else if _, err := io.ReadFull(c, make([]byte, len(s))); err != nil {
					t.Fatal(err)
				}
			}
			s := tls.Client(c, &tls.Config{ServerName: host, RootCAs: pki(t).pool(), NextProtos: []string{"x"}})
			if _, err := io.WriteString(s, "hello"); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d > prompt {
				t.Errorf("held up for %v", d)
			}
			s.CloseWrite()
			if b, err := io.ReadAll(s); err != nil || string(b) != "hello" {
				t.Errorf("%q, %v", b, err)
			}
			c.Close()
			f, _ := r.wait()
			if f.Protocol != v.name || f.Opaque != ReasonNotHTTP || f.Decrypted {
				t.Errorf("recorded %+v", f)
			}
			if f.Child.SNI != host || !strings.HasPrefix(f.Child.JA4, "t13d") || f.Child.Version != "1.2" || f.Upstream.Verdict != "ok" || len(f.Upstream.Chain) == 0 {
				t.Errorf("recorded %+v %+v", f.Child, f.Upstream)
			}
		})
	}
}

// TestPsql: the real client of PostgreSQL, which asks for TLS with eight bytes
// and waits.
func TestPsql(t *testing.T) {
	need(t, "psql")
	cfg := &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}}
	r := newRoad(t, listen(t, func(c net.Conn) {
		b := make([]byte, 8)
		for {
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			if string(b) == postgresAsk {
				break
			}
			io.WriteString(c, "N") // to GSSENCRequest
		}
		io.WriteString(c, "S")
		s := tls.Server(c, cfg)
		s.Read(make([]byte, 4096))
		io.WriteString(s, "E\x00\x00\x00\x1eSFATAL\x00C28000\x00Mnot today\x00\x00")
		s.Close()
	}), nil)
	start := time.Now()
	_, out := run(t, []string{"PGSSLMODE=require"}, "psql", "-h", "127.0.0.1", "-p", r.port, "-U", "me", "-c", "select 1", "db")
	f, _ := r.wait()
	if !strings.Contains(out, "not today") {
		t.Errorf("psql said %s", out)
	}
	if f.Protocol != "postgres" || f.Child.Version != "1.3" || f.Child.Cipher == "" || f.Child.JA3 == "" || f.Error != nil {
		t.Errorf("recorded %+v", f)
	}
	t.Logf("%v: %s", time.Since(start), out)
}

// TestInnerLabel: what TLS carries is named where ALPN does not.
func TestInnerLabel(t *testing.T) {
	for _, v := range []struct {
		name, client, server string
		alpn                 []string
	}{
		{"imap", "", "* OK hello\r\n", nil},
		{"redis", "*1\r\n$4\r\nPING\r\n", "+PONG\r\n", nil},
		{"http", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", nil},
		{"http2", preface, "\x00\x00\x00\x04\x00\x00\x00\x00\x00", nil},
		{"mqtt", "\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd", " ", []string{"mqtt"}},
		{"http", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", []string{"http/1.1"}},
		{"tls", "what is this?\r\n", "something else\r\n", nil},
	} {
		cfg := &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}, NextProtos: v.alpn}
		r := newRoad(t, listen(t, func(raw net.Conn) {
			c := tls.Server(raw, cfg)
			io.ReadFull(c, make([]byte, len(v.client)))
			io.WriteString(c, v.server)
			io.Copy(io.Discard, c)
		}), nil)
		c, err := dialTLS(r, &tls.Config{NextProtos: v.alpn})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		io.WriteString(c, v.client)
		b := make([]byte, len(v.server))
		if _, err := io.ReadFull(c, b); err != nil || string(b) != v.server {
			t.Errorf("%s: %q, %v", v.name, b, err)
		}
		if d := time.Since(start); d > prompt {
			t.Errorf("%s: held up for %v", v.name, d)
		}
		io.WriteString(c, "bye\r\n")
		c.Close()
		if f, _ := r.wait(); f.Protocol != v.name || !f.Decrypted {
			t.Errorf("%s: recorded %q, %v", v.name, f.Protocol, f.Error)
		}
	}
}
