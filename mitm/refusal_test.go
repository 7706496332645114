package mitm

import (
	"bytes"
	"crypto/tls"
	"net"
	"slices"
	"testing"
	"time"

	"trace/flow"
)

func TestRefusals(t *testing.T) {
	var r refusals
	now := time.Now()
	k := func(name string) refusalKey { return refusalKey{name: name, exe: "x"} }
	r.certain(k("a"), now)
	if !r.passes(k("a"), now.Add(passFor-1)) || r.passes(k("a"), now.Add(passFor)) {
		t.Error("a certain refusal does not pass for its time")
	}
	if r.passes(refusalKey{name: "a", exe: "y"}, now) {
		t.Error("another program is let pass")
	}
	if !r.uncertain(k("b"), now) || r.passes(k("b"), now) {
		t.Error("one uncertain refusal is enough")
	}
	if !r.uncertain(k("b"), now) || !r.passes(k("b"), now) {
		t.Error("two uncertain refusals are not enough")
	}
	r.uncertain(k("c"), now)
	r.accepted(k("c"), now)
	for range maybeEnough {
		if r.uncertain(k("c"), now) || r.passes(k("c"), now) {
			t.Error("a client that was decrypted is suspected")
		}
	}
	r.certain(k("c"), now)
	if !r.passes(k("c"), now) {
		t.Error("a certain refusal after a decrypted connection does not count")
	}
	for i := range 3 * maxRefusals {
		r.certain(refusalKey{name: string(rune(i))}, now)
	}
	if len(r.keys) > maxRefusals {
		t.Errorf("%d keys remembered", len(r.keys))
	}
}

// TestMirroredDefect: a child that refuses a certificate for the server's own
// fault is shown it again, however often.
func TestMirroredDefect(t *testing.T) {
	for _, spoil := range []struct {
		name   string
		server func(*testing.T) string
	}{
		{"expired", webOf(pki, expired, new(tls.Config))},
		{"name", webOf(pki, otherName, new(tls.Config))},
	} {
		r := newRoad(t, spoil.server(t), nil)
		for range 4 {
			if c, err := dialTLS(r, &tls.Config{}); err == nil {
				t.Error("accepted")
				c.Close()
			}
			if facts, tap := r.wait(); code(facts) != flow.CodeUpstreamInvalid || tap != nil {
				t.Errorf("%s: recorded %+v", spoil.name, facts.Error)
			}
		}
	}
}

// TestOpenedAhead: connections that a client opens and closes unused are no
// refusals once another has been decrypted.
func TestOpenedAhead(t *testing.T) {
	r := newRoad(t, web(t, &tls.Config{Certificates: []tls.Certificate{pki(t).leaf(t, host, false, nil)}}), nil)
	use := func(bytes bool) *flow.Conn {
		c, err := dialTLS(r, &tls.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if bytes {
			get(c)
		}
		c.Close()
		facts, _ := r.wait()
		return facts
	}
	if f := use(false); code(f) != flow.CodeClientRejectedMaybe || f.Decrypted {
		t.Errorf("first: %+v", f.Error)
	}
	if f := use(true); f.Error != nil || !f.Decrypted {
		t.Errorf("used: %+v", f.Error)
	}
	for range 3 {
		if f := use(false); f.Error != nil || !f.Decrypted {
			t.Errorf("unused: %+v", f.Error)
		}
	}
}

// withExtension adds an empty extension at the end of a ClientHello record.
func withExtension(hello []byte, typ uint16) []byte {
	p := slices.Concat(hello, []byte{byte(typ >> 8), byte(typ), 0, 0})
	at := recordHeader + messageHeader + 2 + 32
	at += 1 + int(p[at])
	at += 2 + (int(p[at])<<8 | int(p[at+1]))
	at += 1 + int(p[at])
	for _, i := range []int{3, recordHeader + 2, at} {
		n := int(p[i])<<8 | int(p[i+1]) + 4
		p[i], p[i+1] = byte(n>>8), byte(n)
	}
	return p
}

// TestUnservedHello: what crypto/tls cannot serve passes as it is.
func TestUnservedHello(t *testing.T) {
	good := helloOf(t, &tls.Config{ServerName: host, CurvePreferences: []tls.CurveID{tls.X25519}})
	broken := bytes.Clone(good)
	broken[recordHeader+messageHeader+2+32] = 200 // the length of the session id
	for _, v := range []struct {
		reason string
		hello  []byte
	}{
		{ReasonEarlyData, withExtension(good, extEarlyData)},
		{ReasonUndecrypted, broken},
	} {
		seen := make(chan []byte, 1)
		r := newRoad(t, listen(t, func(c net.Conn) {
			b := make([]byte, 1<<14)
			n, _ := c.Read(b)
			seen <- b[:n]
		}), nil)
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Write(v.hello)
		if got := <-seen; !bytes.Equal(got, v.hello) {
			t.Errorf("%s: the server read %d bytes of %d", v.reason, len(got), len(v.hello))
		}
		c.Close()
		if facts, _ := r.wait(); facts.Opaque != v.reason || (v.reason == ReasonUndecrypted) != (code(facts) == CodeClientHello) {
			t.Errorf("%s: recorded %+v", v.reason, facts)
		}
	}
	// An encrypted_client_hello that says nothing is no hindrance.
	if s := sniff(withExtension(good, extECH), nil); s.hello == nil || !s.hello.ech || s.hello.sni != host {
		t.Errorf("ECH: %+v", s.hello)
	}
}
