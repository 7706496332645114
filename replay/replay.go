// Package replay sends a recorded request again, or answers a child from a
// recorded session.
//
//	req, err := replay.Make(detail, replay.Options{Env: os.LookupEnv})
//	c := &replay.Client{Dial: dialer.DialContext, Tap: tap, Record: store.Append}
//	err = c.Do(ctx, req, conn)
//
// and, for the other way round,
//
//	p := replay.NewPlayer(session, replay.PlayOptions{…})
//	conn, err := p.Dial(ctx, "tcp", "api.example.com:443")
//
// It reads and writes no session: who calls it hands over what was recorded
// and takes the events of what happens. It knows nothing of models; what it
// knows of their providers is where their keys lie, and which of their fields
// change from one run to the next.
//
// # Theory of operation: sending
//
// [Make] turns a recorded exchange into a [Request]: method, target and fields
// as they were, in their order and case, and a body. What stands between the
// record and the wire is undone here, in this order: the changes that the user
// asks for (Options.Set, Body, Header, To), the placeholders of redaction, for
// which values come from the environment, and the content coding, which the
// record took off. Where the record has the wire form and nothing is changed,
// the very bytes of HTTP/1 are sent.
//
// [Client] connects, writes HTTP/1 by hand or the frames of HTTP/2, and shows
// all bytes to a [Tap], which decodes them into the events of which every
// record is made. It parses no answer by itself: the tap's End tells that the
// exchange is over. Of HTTP/2 it reads what an endpoint must answer: SETTINGS,
// PING, and DATA, whose window it renews.
//
// # Theory of operation: playing
//
// A [Player] stands behind the dial of a run. Each connection that is dialled
// gets one end of a pipe in memory; at the other a server of ours speaks TLS,
// HTTP/1, HTTP/2 and WebSocket as the first bytes want it. A request is
// compared with the recorded ones of the same method, host and path (match.go);
// what changes from run to run (volatile.go) does not count. Each recorded
// answer is given once, in the recorded order; that of a safe request goes on
// being given. What nothing matches is answered with status 502, which names
// the nearest recorded request and the first difference.
package replay

import (
	"regexp"
	"strings"
	"sync"
	"time"

	"trace/flow"
)

// A Request is a recorded request made ready to be sent.
type Request struct {
	Head     flow.Head    // Fields as they are to be sent; Host, Port and Scheme say where to
	Plain    []byte       // the body without its content coding
	Body     []byte       // as it goes on the wire: with its content coding, without framing
	Trailers []flow.Field // behind the body
	Exact    []byte       // HTTP/1: the very bytes, head and body; nil: they are made of the above
	Notes    []string     // in what it differs from what was recorded
}

// A Tap sees the bytes of one connection, as [trace/wire.Decoder] does. Its
// methods are called one at a time.
type Tap interface {
	Data(side flow.Side, at time.Time, p []byte)
	End(side flow.Side, at time.Time, how flow.How)
	Close(at time.Time)
}

// placeholder is what redaction leaves of a secret.
var placeholder = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\[REDACTED:([A-Za-z0-9_-]+)(:[0-9a-f]+)?\]`)
})

// isRedacted reports whether a placeholder stands in s.
func isRedacted(s string) bool {
	return strings.Contains(s, "[REDACTED:") && placeholder().MatchString(s)
}

// setField gives the first field of that name a value and drops the others;
// where there is none it is added at the end.
func setField(fs []flow.Field, name, value string) []flow.Field {
	out := make([]flow.Field, 0, len(fs)+1)
	found := false
	for _, f := range fs {
		if !strings.EqualFold(f.Name, name) {
			out = append(out, f)
			continue
		}
		if !found {
			found = true
			out = append(out, flow.Field{Name: f.Name, Value: value})
		}
	}
	if !found {
		out = append(out, flow.Field{Name: name, Value: value})
	}
	return out
}

// dropField returns fs without the fields of that name.
func dropField(fs []flow.Field, name string) []flow.Field {
	var out []flow.Field
	for _, f := range fs {
		if !strings.EqualFold(f.Name, name) {
			out = append(out, f)
		}
	}
	return out
}
