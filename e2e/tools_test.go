package e2e

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// inNetns runs f on a thread that is in the network namespace at path. The
// thread ends with it.
func inNetns(path string, f func() error) error {
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		ns, err := os.Open(path)
		if err == nil {
			defer ns.Close()
			if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil {
				err = f()
			}
		}
		errs <- err
	}()
	return <-errs
}

// waitRunning returns when the job's first session is being written.
func waitRunning(t *testing.T, j *job) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		r := j.trace("sessions", "list", "--json")
		if r.code == 0 && strings.Contains(r.stdout, `"running"`) {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("no running session: %s %s", r.stdout, r.stderr)
			return
		}
	}
}

// A report is what `namespace doctor --json` prints.
type report struct {
	OK      bool
	Privacy bool `json:"privacy_claim"`
	Device  string
	Checks  []check
}

type check struct{ ID, Status, Found, Hint, Errno string }

func decodeReport(t *testing.T, text string) report {
	t.Helper()
	var r report
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("doctor --json: %v\n%s", err, text)
	}
	return r
}

// serveDNS answers for *.corp.example on addr over UDP and TCP until ctx is
// done; the channel is closed when it has ended.
func serveDNS(t *testing.T, ctx context.Context, addr string) <-chan struct{} {
	t.Helper()
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		pc.Close()
		t.Fatal(err)
	}
	context.AfterFunc(ctx, func() {
		pc.Close()
		l.Close()
	})
	done := make(chan struct{})
	tcpDone := make(chan struct{})
	go func() {
		defer close(tcpDone)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answerTCP(c)
		}
	}()
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				<-tcpDone
				return
			}
			if a := answerDNS(buf[:n], true); a != nil {
				pc.WriteTo(a, from)
			}
		}
	}()
	return done
}

func answerTCP(c net.Conn) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		q := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, q); err != nil {
			return
		}
		a := answerDNS(q, false)
		c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
	}
}

// answerDNS knows known.corp.example and, with 100 addresses, which over UDP
// are cut, large.corp.example.
func answerDNS(query []byte, udp bool) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	h.Response, h.RecursionAvailable = true, true
	count := map[string]int{"known.corp.example.": 1, "large.corp.example.": 100}[strings.ToLower(q.Name.String())]
	if count == 0 {
		h.RCode = dnsmessage.RCodeNameError
	}
	if q.Type != dnsmessage.TypeA {
		count = 0
	}
	if h.Truncated = udp && count > 10; h.Truncated {
		count = 0
	}
	b := dnsmessage.NewBuilder(nil, h)
	b.EnableCompression()
	b.StartQuestions()
	b.Question(q)
	b.StartAnswers()
	for i := range count {
		b.AResource(dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 1}, dnsmessage.AResource{A: [4]byte{192, 0, 2, byte(80 + i)}})
	}
	msg, err := b.Finish()
	if err != nil {
		return nil
	}
	return msg
}

// eventuallyThere waits until a file is there, or the run is over without it.
func eventuallyThere(t *testing.T, path string, done <-chan error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); ; {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case err := <-done:
			t.Fatalf("the run is over: %v", err)
		case <-deadline:
			t.Fatalf("%s is not there after a minute", path)
		case <-tick.C:
		}
	}
}
