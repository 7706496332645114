package datagram

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"trace/flow"
)

// Limits of what is kept of name queries.
const (
	maxQueries = 64 // that wait for their answer, per talk
	maxAnswers = 64 // of one query
	maxTold    = 4096
)

// A query is one that the child put to a name server of its own choice.
type query struct {
	id  uint16
	key dnsmessage.Question
	at  time.Time
	dns flow.DNS
}

// queries are those of a talk that wait for their answer, oldest first.
type queries struct {
	open []*query
	told int64 // that were recorded
}

// ask notes a query. It returns the one that had to make room.
func (q *queries) ask(at time.Time, msg []byte) (lost *query) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || h.Response || q.told >= maxTold {
		return nil
	}
	one, err := p.Question()
	if err != nil {
		return nil
	}
	for _, o := range q.open {
		if o.id == h.ID && o.matches(one) {
			return nil // asked again
		}
	}
	if len(q.open) == maxQueries {
		lost, q.open = q.open[0], q.open[1:]
	}
	q.open = append(q.open, &query{id: h.ID, key: one, at: at,
		dns: flow.DNS{Name: name(one.Name), Type: typeName(one.Type)}})
	return lost
}

func (o *query) matches(one dnsmessage.Question) bool {
	return o.key.Type == one.Type && o.key.Class == one.Class && strings.EqualFold(o.key.Name.String(), one.Name.String())
}

// answer returns the query that msg answers, completed, or nil.
func (q *queries) answer(at time.Time, msg []byte) *query {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || !h.Response {
		return nil
	}
	one, err := p.Question()
	for i, o := range q.open {
		if o.id != h.ID || err == nil && !o.matches(one) {
			continue
		}
		q.open = append(q.open[:i:i], q.open[i+1:]...)
		o.dns.Took = at.Sub(o.at)
		o.dns.Rcode = rcode(h.RCode)
		if p.SkipAllQuestions() == nil {
			o.dns.Answers = answers(&p)
		}
		return o
	}
	return nil
}

// rest returns the queries that were never answered.
func (q *queries) rest() []*query {
	open := q.open
	q.open = nil
	return open
}

// answers reads the records of the answer section that have a short text.
func answers(p *dnsmessage.Parser) (list []string) {
	for len(list) < maxAnswers {
		a, err := p.Answer()
		if err != nil {
			return list
		}
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			list = append(list, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			list = append(list, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.CNAMEResource:
			list = append(list, name(b.CNAME))
		case *dnsmessage.NSResource:
			list = append(list, name(b.NS))
		case *dnsmessage.PTRResource:
			list = append(list, name(b.PTR))
		case *dnsmessage.MXResource:
			list = append(list, fmt.Sprintf("%d %s", b.Pref, name(b.MX)))
		case *dnsmessage.TXTResource:
			list = append(list, fmt.Sprintf("%q", b.TXT))
		default:
			list = append(list, typeName(a.Header.Type))
		}
	}
	return list
}

// name returns n without the final dot.
func name(n dnsmessage.Name) string {
	if s := strings.TrimSuffix(n.String(), "."); s != "" {
		return s
	}
	return "."
}

var rcodes = [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"}

// rcode returns the name that the answer's code has (RFC 6895 section 2.3).
func rcode(c dnsmessage.RCode) string {
	if int(c) < len(rcodes) {
		return rcodes[c]
	}
	return "RCODE" + strconv.Itoa(int(c))
}

// typeName returns the mnemonic of a type, or TYPE and its number (RFC 3597
// section 5).
func typeName(t dnsmessage.Type) string {
	switch t {
	case 64:
		return "SVCB"
	case 65:
		return "HTTPS"
	}
	if s, ok := strings.CutPrefix(t.String(), "Type"); ok {
		return s
	}
	return "TYPE" + strconv.Itoa(int(t))
}
