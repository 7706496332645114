package store

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"trace/flow"
)

// literal finds needle.
func literal(needle []byte) Finder {
	return Finder{Reach: len(needle), All: func(p []byte) (ms [][2]int) {
		for at := 0; ; at += len(needle) {
			i := bytes.Index(p[at:], needle)
			if i < 0 {
				return ms
			}
			at += i
			ms = append(ms, [2]int{at, at + len(needle)})
		}
	}}
}

// expression finds what re matches.
func expression(re string) Finder {
	r := regexp.MustCompile(re)
	return Finder{Reach: 1 << 10, Sight: 4, Open: true, All: func(p []byte) (ms [][2]int) {
		for _, m := range r.FindAllIndex(p, -1) {
			ms = append(ms, [2]int{m[0], m[1]})
		}
		return ms
	}}
}

// grown records a conversation of turns requests, of which each has what the one
// before it had, with an end of its own and now and then a change in the middle.
func grown(t testing.TB, turns, first, each int) (*Store, string, [][]byte) {
	s, path := create(t, Options{})
	rnd := rand.New(rand.NewPCG(7, 7))
	c := &script{s: s, conn: 1}
	c.open()
	talk := prose(rnd, first)
	var bodies [][]byte
	for i := range turns {
		talk = append(talk, prose(rnd, each/2+rnd.IntN(each))...)
		if i%7 == 3 {
			at := rnd.IntN(len(talk))
			talk = slices.Concat(talk[:at], fmt.Appendf(nil, "<edit %d>", i), talk[at:])
		}
		body := slices.Concat([]byte(`{"messages":"`), talk, fmt.Appendf(nil, `","turn":%d}`, i))
		bodies = append(bodies, body)
		c.request("POST", "/v1/messages", "application/json", body)
		c.response(200, "text/plain", false)
		c.body(flow.Server, fmt.Appendf(nil, "answer to turn %d", i))
		c.end(nil)
	}
	flush(t, s)
	return s, path, bodies
}

func search(t testing.TB, r *Reader, f Finder, most int, ids ...int64) map[string]Found {
	t.Helper()
	found := map[string]Found{}
	err := r.Search(context.Background(), ids, f, most, func(f Found) error {
		name := fmt.Sprint(f.Flow, " ", f.Side)
		if f.Messages {
			name = fmt.Sprint(f.Flow, " messages")
		}
		found[name] = f
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func numbers(n int) []int64 {
	ids := make([]int64, n)
	for i := range ids {
		ids[i] = int64(i + 1)
	}
	return ids
}

// TestSearchFindsAll compares with a search of the whole bodies.
func TestSearchFindsAll(t *testing.T) {
	s, path, bodies := grown(t, 20, 120_000, 4_000)
	finish(t, s)
	r := open(t, path)
	var finders []Finder
	rnd := rand.New(rand.NewPCG(8, 8))
	for n := range 40 {
		body := bodies[rnd.IntN(len(bodies))]
		length := []int{1, 9, 60, 1500, 9000}[n%5]
		at := rnd.IntN(len(body) - length)
		finders = append(finders, literal(body[at:at+length]))
	}
	finders = append(finders, literal(bodies[3][100_000:]), literal(bodies[19]), literal([]byte("<edit 10>")))
	for _, re := range []string{`value\d+ func\d+`, `\bvalue1\d\b`, `\A\{"messages`, `turn":\d+\}$`, `<edit 3>.{900}`, `(?s)<edit 10>.*`, `e`} {
		finders = append(finders, expression(re))
	}
	for n, f := range finders {
		found := search(t, r, f, 1<<30, numbers(len(bodies))...)
		for i, body := range bodies {
			got := found[fmt.Sprint(i+1, " client")]
			want := f.All(body)
			if len(want) != got.Total || len(got.Matches) != got.Total {
				t.Errorf("finder %d, body %d: %d matches (%d told), want %d", n, i, got.Total, len(got.Matches), len(want))
				continue
			}
			for k, m := range got.Matches {
				from, to := want[k][0], want[k][1]
				if n < 43 && (m.Offset != int64(from) || !bytes.Equal(m.Text, body[from:to])) || m.Index != -1 ||
					!bytes.Equal(m.Before, body[max(0, from-excerptBytes):from]) {
					t.Errorf("finder %d, body %d: match %d at %d, want %d", n, i, k, m.Offset, from)
				}
			}
		}
	}
	if found := search(t, r, literal([]byte("answer to turn 7")), 5, numbers(20)...); len(found) != 1 || found["8 server"].Total != 1 {
		t.Errorf("%+v", found)
	}
	if found := search(t, r, literal([]byte("value")), 3, 2); len(found) != 1 || len(found["2 client"].Matches) != 3 || found["2 client"].Total < 100 {
		t.Errorf("%+v", found)
	}
}

// TestSearchEvents: while they come and after, with their numbers.
func TestSearchEvents(t *testing.T) {
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1}
	c.open()
	c.request("POST", "/", "application/json", []byte(`{"x":"needle"}`))
	c.response(200, "text/event-stream", true)
	for i := range 20_000 {
		word := "hay"
		if i%5000 == 77 {
			word = "needle"
		}
		c.event(fmt.Sprintf(`{"n":%d,"text":"%s"}`, i, word))
	}
	flush(t, s)
	check := func() {
		t.Helper()
		found := search(t, open(t, path), literal([]byte("needle")), 9, 1)
		var got []string
		for _, m := range found["1 server"].Matches {
			got = append(got, fmt.Sprint(m.Index))
		}
		if found["1 client"].Total != 1 || strings.Join(got, " ") != "77 5077 10077 15077" {
			t.Errorf("%v, %+v", got, found)
		}
	}
	check()
	c.ended(flow.Server, nil, 20_000)
	c.end(nil)
	finish(t, s)
	check()
}

// TestSearchMessages: a match is in one message, not in two.
func TestSearchMessages(t *testing.T) {
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1}
	c.open()
	c.upgrade()
	for i := range 30 {
		c.say(flow.Side(i%2), 1, fmt.Sprint("hay and need", i))
		c.say(flow.Server, 1, "le")
		if i == 20 {
			c.say(flow.Client, 1, "a needle")
		}
	}
	check := func(r *Reader) {
		t.Helper()
		found := search(t, r, literal([]byte("needle")), 9, 1)["1 messages"]
		if found.Total != 1 || len(found.Matches) != 1 || found.Matches[0].Index != 42 || found.Matches[0].Side != flow.Client || found.Matches[0].Offset != 2 {
			t.Errorf("%+v", found)
		}
		if n := search(t, r, literal([]byte("need")), 9, 1)["1 messages"].Total; n != 31 {
			t.Errorf("%d times need", n)
		}
	}
	flush(t, s)
	check(open(t, path))
	c.end(nil)
	finish(t, s)
	check(open(t, path))
}

// BenchmarkSearch looks through a conversation of 300 turns, 1 GB in all, and
// through 256 MB that are all different.
func BenchmarkSearch(b *testing.B) {
	for _, c := range []struct {
		name               string
		turns, first, each int
	}{{"conversation", 300, 2 << 20, 10 << 10}, {"different", 1, 256 << 20, 2}} {
		s, path, bodies := grown(b, c.turns, c.first, c.each)
		finish(b, s)
		size := 0
		for _, body := range bodies {
			size += len(body)
		}
		fi, _ := os.Stat(path)
		b.Logf("%d MB in a file of %.1f MB", size>>20, float64(fi.Size())/(1<<20))
		for name, f := range map[string]Finder{"rare": literal([]byte(`"turn":299}`)), "absent": literal([]byte("nowhere")), "frequent": literal([]byte("value")), "regexp": expression(`turn":2\d9\}`)} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(size))
				for range b.N {
					r, err := Open(path)
					if err != nil {
						b.Fatal(err)
					}
					found := search(b, r, f, 5, numbers(c.turns)...)
					b.ReportMetric(float64(len(found)), "parts")
					r.Close()
				}
			})
		}
	}
}
