package store

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"

	"trace/flow"
	"trace/redact"
)

// upgrade makes the connection a websocket.
func (c *script) upgrade() {
	c.request("GET", "/socket", "", nil)
	c.put(flow.Event{Kind: flow.Response, Side: flow.Server, Head: &flow.Head{Status: 101, Version: "1.1", Protocol: "websocket", Streaming: true}})
	c.ended(flow.Server, nil, 0)
}

// say puts a message of a websocket.
func (c *script) say(side flow.Side, opcode uint8, data string) {
	c.put(flow.Event{Kind: flow.Message, Side: side, Opcode: opcode, Data: []byte(data), Size: int64(len(data)), SHA256: sha256.Sum256([]byte(data)), HasSum: true,
		Compressed: opcode == 1})
}

func messagesOf(t *testing.T, r *Reader, id int64, want int) []flow.Piece {
	t.Helper()
	ms, err := r.Messages(id)
	if err != nil || len(ms) != want {
		t.Fatalf("%d messages, want %d: %v", len(ms), want, err)
	}
	return ms
}

func TestWebSocket(t *testing.T) {
	for _, o := range []Options{{}, {Redact: redact.New([32]byte{1})}} {
		s, path := create(t, o)
		r := open(t, path)
		c := &script{s: s, conn: 1}
		c.open()
		c.upgrade()
		flush(t, s)
		if x, err := r.Flow(1); err != nil || x.Kind != flow.KindWebSocket || x.State != flow.StateOpen {
			t.Errorf("before the first message: %+v, %v", x, err)
		}
		said := []struct {
			side   flow.Side
			opcode uint8
			data   string
		}{
			{flow.Client, 1, `{"type":"response.create"}`}, {flow.Server, 9, "are you there"}, {flow.Client, 10, "are you there"},
			{flow.Server, 1, "text"}, {flow.Server, 2, "\x00\x01binary\xff"}, {flow.Client, 1, ""}, {flow.Server, 8, "\x03\xe8bye"}, {flow.Client, 8, "\x03\xe8"},
		}
		first := c.now
		for _, m := range said {
			c.say(m.side, m.opcode, m.data)
		}
		flush(t, s)
		check := func(when string) {
			t.Helper()
			for i, m := range messagesOf(t, r, 1, len(said)) {
				w := said[i]
				if m.Index != i || m.Side != w.side || m.Opcode != w.opcode || string(m.Data) != w.data || m.Size != int64(len(w.data)) || m.Compressed != (w.opcode == 1) ||
					!m.HasSum || m.SHA256 != sha256.Sum256([]byte(w.data)) || m.Partial || !m.At.Equal(at(first+i)) {
					t.Errorf("%s: message %d: %+v, want %+v", when, i, m, w)
				}
			}
		}
		check("live")
		c.end(&flow.Error{Where: flow.AtUpstream, Code: flow.CodeReset, Message: "gone", Detail: "1006"})
		c.close(nil)
		finish(t, s)
		check("after")
		x, err := r.Flow(1)
		if err != nil || x.Kind != flow.KindWebSocket || x.Error.Detail != "1006" || x.Redacted != 0 {
			t.Errorf("%+v, %v", x, err)
		}
		if xs := flows(t, r, Query{Kind: "websocket"}); len(xs) != 1 {
			t.Errorf("%d websockets in the list", len(xs))
		}
	}
}

// TestMessagesOfAnExchange: messages alone make no websocket.
func TestMessagesOfAnExchange(t *testing.T) {
	s, path := create(t, Options{Redact: redact.New([32]byte{1})})
	c := &script{s: s, conn: 1}
	c.open()
	c.request("GET", "/", "", nil)
	c.say(flow.Server, 2, "bytes")
	c.end(nil)
	finish(t, s)
	r := open(t, path)
	if x, err := r.Flow(1); err != nil || x.Kind != flow.KindHTTP {
		t.Errorf("%+v, %v", x, err)
	}
	if m := messagesOf(t, r, 1, 1)[0]; string(m.Data) != "bytes" || !m.HasSum {
		t.Errorf("%+v", m)
	}
}

// deltaMessage is what OpenAI's Responses API says over a websocket.
func deltaMessage(text string) string {
	return fmt.Sprintf(`{"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,"delta":%q}`, text)
}

// TestSecretsInMessages: split over several messages of a direction, with
// others between them.
func TestSecretsInMessages(t *testing.T) {
	key, _, password := planted()
	s, path := create(t, Options{Redact: redact.New([32]byte{1})})
	r := open(t, path)
	c := &script{s: s, conn: 1}
	c.open()
	c.upgrade()
	c.say(flow.Server, 1, deltaMessage("the key is "+key[:7])) // 0
	c.say(flow.Client, 1, deltaMessage("hm"))                  // 1: the other direction
	flush(t, s)
	ms := messagesOf(t, r, 1, 2)
	if !ms[0].Partial || ms[0].HasSum || strings.Contains(string(ms[0].Data), key[:7]) || !strings.Contains(string(ms[0].Data), "the key is ") || ms[1].Partial || !ms[1].HasSum {
		t.Errorf("held: %+v", ms)
	}
	for i := 7; i < len(key); i += 5 {
		c.say(flow.Server, 1, deltaMessage(key[i:min(i+5, len(key))]))
	}
	c.say(flow.Server, 1, deltaMessage(". Look at sk-"))                   // held, and clean in the end
	c.say(flow.Server, 9, "ping")                                          // a control frame between
	c.say(flow.Server, 1, deltaMessage("learn, it said"))                  //
	c.say(flow.Client, 1, `{"session":{"password":"`+password+`","n":1}}`) // by name
	c.say(flow.Server, 2, "\x00\x01\x02 "+password+" \xff")                // remembered, in binary
	c.say(flow.Server, 8, "\x03\xe8 because "+password)                    // and in a control frame
	c.say(flow.Server, 1, "42[\"say\",{\"x\":\"none\"}]")                  // no JSON
	c.say(flow.Server, 2, `{"binary":"that is text, `+password[:9])        // a binary message that is text, cut
	c.say(flow.Server, 1, `{"type":"response.completed","response":{"output":"`+key+`"}}`)
	c.end(nil)
	finish(t, s)
	ms = messagesOf(t, r, 1, c.now-6)
	n, clean := 0, 0
	for i, m := range ms {
		n += strings.Count(string(m.Data), "[REDACTED:")
		changed := !m.HasSum
		if !changed {
			clean++
		}
		if m.HasSum && m.SHA256 != sha256.Sum256(m.Data) || m.Partial {
			t.Errorf("message %d: %q: has a sum %v that fits %v, partial %v", i, m.Data, m.HasSum, m.SHA256 == sha256.Sum256(m.Data), m.Partial)
		}
	}
	if n != 6 || clean != 5 {
		t.Errorf("%d placeholders, %d messages with a sum", n, clean)
		for _, m := range ms {
			t.Logf("%v %s", m.HasSum, m.Data)
		}
	}
	if x, err := r.Flow(1); err != nil || x.Redacted != 6 {
		t.Errorf("redacted %d, %v", x.Redacted, err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, m := range ms {
		all.Write(m.Data)
	}
	for _, secret := range []string{key, key[20:50], password} {
		if bytes.Contains(all.Bytes(), []byte(secret)) || bytes.Contains(raw, []byte(secret)) {
			t.Errorf("%q is there", secret)
		}
	}
	for i := 7; i < len(key); i += 5 { // nor a hash by which a piece of it could be guessed
		sum := sha256.Sum256([]byte(deltaMessage(key[i:min(i+5, len(key))])))
		if bytes.Contains(raw, sum[:]) {
			t.Errorf("the hash of a message with %q is there", key[i:min(i+5, len(key))])
		}
	}
}

// TestHeldMessageIsDecided: a message whose end is held back for something that
// never comes does not stop those behind it.
func TestHeldMessageIsDecided(t *testing.T) {
	s, path := create(t, Options{Redact: redact.New([32]byte{1})})
	r := open(t, path)
	c := &script{s: s, conn: 1}
	c.open()
	c.upgrade()
	held := `{"client":"it is sk-"}`
	c.say(flow.Client, 1, held)
	for i := range 2 * maxWaiting {
		c.say(flow.Server, 1, fmt.Sprintf(`{"n":%d}`, i))
	}
	flush(t, s)
	m := messagesOf(t, r, 1, 1+2*maxWaiting)[0]
	if m.Partial || string(m.Data) != held || !m.HasSum {
		t.Errorf("%+v", m)
	}
	c.say(flow.Client, 1, held)
	c.say(flow.Server, 1, strings.Repeat("words ", maxWaitingBytes/5))
	flush(t, s)
	if m := messagesOf(t, r, 1, 3+2*maxWaiting)[1+2*maxWaiting]; m.Partial {
		t.Errorf("%+v", m)
	}
}

func TestManySmallMessages(t *testing.T) {
	n := 300_000
	if testing.Short() {
		n = 20_000
	}
	s, path := create(t, Options{Redact: redact.New([32]byte{1}), Queue: 1 << 20})
	c := &script{s: s, conn: 1}
	c.open()
	c.upgrade()
	for i := range n {
		switch i % 4 {
		case 0:
			c.say(flow.Client, 9, "")
		case 1:
			c.say(flow.Server, 1, "x")
		case 2:
			c.say(flow.Client, 2, "\x00")
		case 3:
			c.say(flow.Server, 1, "sk-") // held again and again
		}
		if i%10_000 == 0 {
			flush(t, s)
			if held := len(s.writer.conns[1].open[1].messages.ps); held > maxLive+maxWaiting {
				t.Fatalf("%d messages in memory", held)
			}
		}
	}
	c.end(nil)
	fs := finish(t, s)
	ms := messagesOf(t, open(t, path), 1, n)
	for i, m := range ms {
		if m.Index != i || m.Size > 3 || m.Partial {
			t.Fatalf("message %d: %+v", i, m)
		}
	}
	t.Logf("%d bytes a message", fs.Bytes/int64(n))
}

// TestLargeMessage has the size of the largest that is kept.
func TestLargeMessage(t *testing.T) {
	s, path := create(t, Options{Redact: redact.New([32]byte{1})})
	c := &script{s: s, conn: 1}
	c.open()
	c.upgrade()
	large := `{"type":"response.create","input":[` + strings.Repeat(`{"role":"user","content":"some words and more of them"},`, 16<<20/56) + `{}]}`
	c.say(flow.Client, 1, large)
	c.say(flow.Server, 2, strings.Repeat("\x00noise\xfe\xff", 2<<20))
	c.say(flow.Server, 1, strings.Repeat("words and words ", 1<<20))
	c.end(nil)
	finish(t, s)
	for i, m := range messagesOf(t, open(t, path), 1, 3) {
		if m.SHA256 != sha256.Sum256(m.Data) || !m.HasSum || m.Size != int64(len(m.Data)) {
			t.Errorf("message %d: %d of %d bytes", i, len(m.Data), m.Size)
		}
	}
}
