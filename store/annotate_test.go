package store

import (
	"maps"
	"net/url"
	"slices"
	"testing"

	"trace/flow"
)

func TestAnnotations(t *testing.T) {
	s, path := create(t, Options{})
	for i := range int64(3) {
		c := &script{s: s, conn: i + 1, flow: 1}
		c.open()
		c.request("POST", "/v1/messages", "application/json", []byte(`{}`))
		c.response(200, "application/json", false)
		c.end(nil)
	}
	flush(t, s)
	doc := []byte(`{"model":"a"}`)
	s.Annotate(1, doc)
	copy(doc, "XXXX") // it was copied
	s.Annotate(3, []byte("first"))
	s.Annotate(3, []byte("second"))
	s.Annotate(99, []byte("of no flow"))
	s.Annotate(2, nil)
	s.Annotate(2, make([]byte, maxAnnotation+1))
	flush(t, s)
	live, err := s.Reader()
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	finish(t, s)
	s.Annotate(2, []byte("too late"))
	for name, r := range map[string]*Reader{"live": live, "ended": open(t, path)} {
		docs, err := r.Annotations(1, 99)
		if err != nil || !slices.Equal(slices.Sorted(maps.Keys(docs)), []int64{1, 3}) || string(docs[1]) != `{"model":"a"}` || string(docs[3]) != "second" {
			t.Errorf("%s: %v, %v", name, docs, err)
		}
		if doc, err := r.Annotation(3); err != nil || string(doc) != "second" {
			t.Errorf("%s: %q, %v", name, doc, err)
		}
		if doc, err := r.Annotation(2); err != nil || doc != nil {
			t.Errorf("%s: %q, %v", name, doc, err)
		}
		if xs, err := r.Flows(Query{}); err != nil || len(xs) != 3 {
			t.Errorf("%s: %d flows, %v", name, len(xs), err)
		}
	}
}

// TestAnnotationsOfOldFiles: a file of format 2 has no table for them.
func TestAnnotationsOfOldFiles(t *testing.T) {
	s, path := create(t, Options{})
	c := &script{s: s, conn: 1, flow: 1}
	c.open()
	c.request("GET", "/", "", nil)
	c.end(nil)
	finish(t, s)
	d, err := dial(path, url.Values{"mode": {"rw"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.script("DROP TABLE call; PRAGMA user_version=2"); err != nil {
		t.Fatal(err)
	}
	d.close()
	r := open(t, path)
	if docs, err := r.Annotations(1, 10); err != nil || len(docs) != 0 {
		t.Errorf("%v, %v", docs, err)
	}
	if xs, err := r.Flows(Query{Heads: true}); err != nil || len(xs) != 1 {
		t.Errorf("%d flows, %v", len(xs), err)
	}
}

// TestAnnotationsWhileStopped: what cannot be written is no gap in the record.
func TestAnnotationsWhileStopped(t *testing.T) {
	w := &writer{failing: errCrashed}
	w.apply(&flow.Event{Kind: annotation, Flow: 1, Data: []byte("doc")})
	if len(w.ops.annotated) != 0 || w.lost.events != 0 {
		t.Errorf("%+v, %+v", w.ops, w.lost)
	}
}
