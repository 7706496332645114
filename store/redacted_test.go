package store

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"trace/flow"
	"trace/redact"
)

// asLiteral looks for a text as it is.
func asLiteral(text string) Finder {
	re := regexp.MustCompile(regexp.QuoteMeta(text))
	return Finder{Reach: len(text), All: func(p []byte) (ms [][2]int) {
		for _, m := range re.FindAllIndex(p, -1) {
			ms = append(ms, [2]int{m[0], m[1]})
		}
		return ms
	}}
}

// TestRedactedReader reads a session that holds secrets as if it held none: what
// comes out is what a session has in which they were never kept.
func TestRedactedReader(t *testing.T) {
	s, path := leak(t, Options{})
	finish(t, s)
	clean, cleanPath := leak(t, Options{Redact: redact.New([32]byte{1})})
	finish(t, clean)
	r, want := open(t, path), open(t, cleanPath)
	r.Redact(redact.New([32]byte{1}))
	var all bytes.Buffer
	fs, err := r.Session()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(&all, fs)
	for _, q := range []Query{{}, {Heads: true}} {
		for _, x := range flows(t, r, q) {
			text, err := x.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
	}
	for id := int64(1); id <= 3; id++ {
		for _, side := range []flow.Side{flow.Client, flow.Server} {
			got, err := r.Body(id, side)
			if err != nil {
				t.Fatal(err)
			}
			is, err := want.Body(id, side)
			if err != nil || !bytes.Equal(got, is) {
				t.Errorf("body of flow %d, %v: %.300q, recorded without secrets %.300q, %v", id, side, got, is, err)
			}
			all.Write(got)
		}
		var pieces [2][]flow.Piece
		for i, rd := range []*Reader{r, want} {
			if err := rd.PiecesFrom(id, 3, func(p flow.Piece) error { pieces[i] = append(pieces[i], p); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if len(pieces[0]) != len(pieces[1]) {
			t.Fatalf("flow %d has %d pieces from 3 on, not %d", id, len(pieces[0]), len(pieces[1]))
		}
		for i, p := range pieces[0] {
			if q := pieces[1][i]; p.Index != q.Index || p.Side != q.Side || !bytes.Equal(p.Data, q.Data) || p.HasSum != q.HasSum {
				t.Errorf("flow %d: %+v, recorded without secrets %+v", id, p, q)
			}
			all.Write(p.Data)
		}
		d, err := r.Detail(id)
		if err != nil {
			t.Fatal(err)
		}
		text, err := d.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
		if d.Request != nil && (!d.Request.Withheld || d.Request.Body.SHA256 != [32]byte{}) {
			t.Errorf("flow %d tells the hash of a body: %+v", id, d.Request)
		}
	}
	key, cookie, password := planted()
	for _, secret := range []string{key, key[15:40], cookie[4:], password} {
		if i := bytes.Index(all.Bytes(), []byte(secret)); i >= 0 {
			t.Errorf("%q comes out: %q", secret, all.Bytes()[max(0, i-60):i+20])
		}
		if found := searched(t, r, secret); len(found) > 0 {
			t.Errorf("%q is found: %+v", secret, found)
		}
	}
	if _, err := r.RawSize(1, flow.Client); err == nil {
		t.Error("the wire form is handed out")
	}
	if err := r.Follow(context.Background(), true, func(Change) error { return nil }); err == nil {
		t.Error("a reader that redacts follows")
	}
}

// TestRedactedSearch finds in the redacted text what the ordinary search finds in
// a session recorded so.
func TestRedactedSearch(t *testing.T) {
	s, path := leak(t, Options{})
	finish(t, s)
	clean, cleanPath := leak(t, Options{Redact: redact.New([32]byte{1})})
	finish(t, clean)
	r, want := open(t, path), open(t, cleanPath)
	r.Redact(redact.New([32]byte{1}))
	for _, text := range []string{"words", "REDACTED:", "the key is [", "text_delta", "nowhere"} {
		got, is := searched(t, r, text), searched(t, want, text)
		if fmt.Sprint(got) != fmt.Sprint(is) {
			t.Errorf("%q: %.500v, recorded without secrets %.500v", text, got, is)
		}
	}
}

// searched returns what is found: where, how often, and around it.
func searched(t *testing.T, r *Reader, text string) (list []string) {
	t.Helper()
	err := r.Search(context.Background(), []int64{1, 2, 3}, asLiteral(text), 3, func(f Found) error {
		line := fmt.Sprint(f.Flow, f.Side, f.Messages, f.Total)
		for _, m := range f.Matches {
			line += fmt.Sprintf(" %s|%s", m.Text, strings.ToValidUTF8(string(m.After[:min(8, len(m.After))]), ""))
		}
		list = append(list, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
