package store

import (
	"fmt"
	"reflect"
	"testing"

	"trace/flow"
)

// TestPick: what a func takes is what Flows returns of it, the newest of them.
func TestPick(t *testing.T) {
	s, path := create(t, Options{})
	for i := range int64(30) {
		c := &script{s: s, conn: i + 1, flow: 1}
		c.open()
		method := "GET"
		if i%3 == 0 {
			method = "POST"
		}
		c.request(method, fmt.Sprintf("/n/%d", i), "", nil)
		c.response(200+int(i%2), "text/plain", false)
		c.end(nil)
	}
	finish(t, s)
	r := open(t, path)
	for _, heads := range []bool{true, false} {
		want, err := r.Flows(Query{Heads: heads, Method: "POST", Status: "200"})
		if err != nil || len(want) != 5 {
			t.Fatalf("%d flows, %v", len(want), err)
		}
		for _, limit := range []int{0, 2, 100} {
			asked := 0
			got, err := r.Pick(Query{Heads: heads, Status: "200", Limit: limit}, func(x *flow.Exchange) bool {
				asked++
				return x.Kind == flow.KindHTTP && x.Request.Head.Method == "POST"
			})
			expected := want
			if limit == 2 {
				expected = want[3:]
				if asked > 7 {
					t.Errorf("asked about %d flows for 2", asked)
				}
			}
			if err != nil || !reflect.DeepEqual(got, expected) {
				t.Errorf("heads %v, limit %d: %+v, %v", heads, limit, got, err)
			}
		}
	}
	if _, err := r.Pick(Query{Status: "x"}, nil); err == nil {
		t.Error("no error for a bad status")
	}
}

func TestEnded(t *testing.T) {
	s, path := create(t, Options{})
	begin := func(i int64) *script {
		c := &script{s: s, conn: i, flow: 1}
		c.open()
		c.request("GET", "/", "", nil)
		flush(t, s)
		return c
	}
	var cs []*script
	for i := range int64(5) {
		cs = append(cs, begin(i+1))
	}
	r := open(t, path)
	ask := func(after int64, n int) ([]int64, int64) {
		xs, last, err := r.Ended(after, n)
		if err != nil {
			t.Fatal(err)
		}
		var ids []int64
		for _, x := range xs {
			ids = append(ids, x.ID)
		}
		return ids, last
	}
	ids, last := ask(0, 100)
	if len(ids) != 0 || last == 0 {
		t.Errorf("%v, %d", ids, last)
	}
	for _, i := range []int{3, 1} {
		cs[i].end(nil)
		flush(t, s)
	}
	if ids, last = ask(last, 100); !reflect.DeepEqual(ids, []int64{4, 2}) {
		t.Errorf("%v", ids)
	}
	if ids, again := ask(last, 100); len(ids) != 0 || again != last {
		t.Errorf("%v, %d after %d", ids, again, last)
	}
	cs[0].end(nil)
	flush(t, s)
	var all []int64
	for last, n := int64(0), 0; n < 10; n++ {
		ids, next := ask(last, 1)
		all = append(all, ids...)
		if next == last {
			break
		}
		last = next
	}
	if !reflect.DeepEqual(all, []int64{4, 2, 1}) {
		t.Errorf("bit by bit: %v", all)
	}
}
