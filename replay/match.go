package replay

import (
	"fmt"
	"sort"
	"strings"

	"trace/flow"
)

// A recorded is a request of the session with what is needed to compare it.
// The player's lock guards it.
type recorded struct {
	id     int64
	head   *flow.Head
	path   string // as pathKey
	query  *form
	params []leaf
	used   bool
	why    string // it cannot be played; "" if it can
	body   *form  // nil: not read yet
}

// An asked is a live request.
type asked struct {
	method, scheme, host, path string
	port                       int
	contentType                string
	body                       []byte // decoded
	websocket                  bool
}

func (a *asked) url() string {
	return a.scheme + "://" + hostPort(a.scheme, a.host, a.port) + a.path
}

// A verdict is what a live request came to.
type verdict struct {
	found      *recorded // nil: nothing answers it
	near       bool      // found is only the nearest
	nearest    *recorded // where nothing answers it
	difference string
	reason     string // why not
}

// isSafe reports whether the last answer to a request goes on being given.
func isSafe(method string) bool { return method == "GET" || method == "HEAD" || method == "OPTIONS" }

// match finds the recorded request that a is, and takes it.
func (p *Player) match(a *asked) (verdict, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	path, query := pathKey(a.path)
	params := queryLeaves(query)
	live := bodyLeaves(a.contentType, a.body)
	sums := make([]uint64, len(live))
	counts := make(map[uint64]int, len(live))
	for i, l := range live {
		sums[i] = sumOf(l)
		counts[sums[i]]++
	}
	paramSums := formOf(params).sums
	var free, spent []*recorded // of the same method, host, path and query
	for _, r := range p.list {
		if r.head.Method != a.method || r.head.Host != a.host || r.path != path || !r.query.equals(params, paramSums) || p.otherPort(r, a) {
			continue
		}
		if r.used {
			spent = append(spent, r)
		} else {
			free = append(free, r)
		}
	}
	for _, r := range free {
		ok, err := p.same(r, live, sums)
		if err != nil {
			return verdict{}, err
		}
		if ok {
			r.used = true
			return verdict{found: r}, nil
		}
	}
	if isSafe(a.method) {
		for i := len(spent) - 1; i >= 0; i-- {
			if ok, err := p.same(spent[i], live, sums); ok || err != nil {
				return verdict{found: spent[i]}, err
			}
		}
	}
	near, err := p.nearest(free, counts, len(live))
	if err != nil {
		return verdict{}, err
	}
	if near != nil && !p.opt.Exact {
		near.used = true
		return verdict{found: near, near: true}, nil
	}
	return p.unmatched(a, near, spent, live, counts)
}

// otherPort reports whether r was recorded on another port than a asks, where
// something was recorded on that.
func (p *Player) otherPort(r *recorded, a *asked) bool {
	return r.head.Port != a.port && p.ports[hostAndPort{a.host, a.port}]
}

type hostAndPort struct {
	host string
	port int
}

// same compares bodies.
func (p *Player) same(r *recorded, live []leaf, sums []uint64) (bool, error) {
	f, err := p.form(r)
	return err == nil && f.equals(live, sums), err
}

// form returns the form of a recorded body, which is read the first time.
func (p *Player) form(r *recorded) (*form, error) {
	if r.body == nil {
		d, err := p.load(r.id)
		if err != nil {
			return nil, err
		}
		r.body = formOf(requestBody(d))
	}
	return r.body, nil
}

// nearest returns that of rs whose body is most like the live one, of equals
// the first.
func (p *Player) nearest(rs []*recorded, sums map[uint64]int, n int) (*recorded, error) {
	var best *recorded
	most := -1.0
	for _, r := range rs {
		f, err := p.form(r)
		if err != nil {
			return nil, err
		}
		if l := f.likeness(sums, n); l > most {
			best, most = r, l
		}
	}
	return best, nil
}

// unmatched says why nothing answers a, and what is nearest to it.
func (p *Player) unmatched(a *asked, near *recorded, spent []*recorded, live []leaf, counts map[uint64]int) (verdict, error) {
	v := verdict{nearest: near}
	switch {
	case near != nil:
		v.reason = "no recorded request is the same"
	case len(spent) > 0:
		v.reason = fmt.Sprintf("its recorded answers (%d) were all given already", len(spent))
		var err error
		if v.nearest, err = p.nearest(spent, counts, len(live)); err != nil {
			return v, err
		}
	default:
		v.reason = "nothing like it was recorded"
		v.nearest = p.closest(a)
	}
	if v.nearest == nil {
		v.reason = "the session holds no request that could answer"
		return v, nil
	}
	var err error
	v.difference, err = p.difference(v.nearest, a, live)
	return v, err
}

// closest returns the recorded request whose method, host and path are most
// like those of a.
func (p *Player) closest(a *asked) *recorded {
	path, _ := pathKey(a.path)
	score := func(r *recorded) int {
		n := 0
		if r.head.Host == a.host {
			n += 1000
		}
		if r.path == path {
			n += 500
		}
		if r.head.Method == a.method {
			n += 100
		}
		return n + 300*commonPrefix(r.path, path)/max(1, len(r.path), len(path))
	}
	list := append([]*recorded{}, p.list...)
	sort.SliceStable(list, func(i, j int) bool { return score(list[i]) > score(list[j]) })
	if len(list) == 0 {
		return nil
	}
	return list[0]
}

func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// difference names the first thing in which a is not r.
func (p *Player) difference(r *recorded, a *asked, live []leaf) (string, error) {
	path, query := pathKey(a.path)
	switch h := r.head; {
	case h.Host != a.host:
		return "host is " + a.host + ", recorded " + h.Host, nil
	case h.Method != a.method:
		return "method is " + a.method + ", recorded " + h.Method, nil
	case r.path != path:
		return "path is " + shortValue(path) + ", recorded " + shortValue(r.path), nil
	case h.Port != a.port:
		return fmt.Sprintf("port is %d, recorded %d", a.port, h.Port), nil
	}
	if d := firstDifference(r.params, queryLeaves(query)); d != "" {
		return "query " + d, nil
	}
	d, err := p.load(r.id)
	if err != nil {
		return "", err
	}
	if diff := firstDifference(requestBody(d), live); diff != "" {
		return "body " + strings.TrimPrefix(diff, "the body "), nil
	}
	return "", nil
}
