package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/store"
)

// searchOptions are the flags of `flows search`.
type searchOptions struct {
	selection
	json       bool
	ignoreCase bool
	regexp     bool
	most       int
	largest    int64 // flow of which the answer is put together, in bytes; 0: any

	find store.Finder
}

func newFlowsSearchCommand() *cobra.Command {
	var o searchOptions
	cmd := &cobra.Command{
		Use:   "search TEXT",
		Short: "Find text in names, heads, bodies, events, messages and answers",
		Long: `Find text in what was recorded: in names, heads, decoded bodies, events and
messages, and in the answers of language models, put together from the pieces in
which they came. TEXT is also found as JSON writes it in strings.

Each line is a hit: the flow, where it is, and the text around it. --json prints
the array of the flows that have hits, each with its hits.`,
		Example: `  trace flows search 'rate limit'
  trace flows search -i --regexp 'api[-_]key' --host '*.example.com'
  trace flows search TODO --jq 'map(.id)'`,
		Args: checked(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args[0], output(cmd), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.json, "json", false, "print the JSON array of the flows with hits")
	f.BoolVarP(&o.ignoreCase, "ignore-case", "i", false, "take capital and small letters for the same")
	f.BoolVarP(&o.regexp, "regexp", "E", false, "TEXT is a regular expression (RE2)")
	f.IntVarP(&o.most, "max-count", "m", 5, "show at most `N` hits of each part of a flow; 0: all")
	o.register(f)
	return cmd
}

// A hit is a place where the text was found.
type hit struct {
	where               string
	index               int // of an event or message; -1: of none
	dir                 string
	offset              int64
	before, text, after []byte
}

// hits are those of one flow.
type hits struct {
	list  []hit
	total int
	more  map[string]int // those that are not in list, by where
}

func (o *searchOptions) run(ctx context.Context, text string, w *terminal, stderr io.Writer) error {
	var err error
	if o.find, err = newFinder(text, o.regexp, o.ignoreCase); err != nil {
		return usageError{fmt.Errorf("search %s: %w", printable(text), err)}
	}
	if o.most < 0 {
		return usageError{fmt.Errorf("--max-count %d: want a number of hits", o.most)}
	}
	if o.most == 0 {
		o.most = 1 << 30
	}
	if ctx == nil {
		ctx = context.Background()
	}
	o.bare = true // --jq is for what has hits
	c, err := o.read(stderr)
	if err != nil {
		return err
	}
	asJSON := o.json || len(o.filters) > 0
	var array bytes.Buffer
	found := 0
	err = c.each(func(r *store.Reader, xs []*flow.Exchange) error {
		all, err := o.search(ctx, r, xs)
		if asJSON {
			attachCalls(r, slices.DeleteFunc(slices.Clone(xs), func(x *flow.Exchange) bool { return all[x.ID] == nil }))
		}
		for _, x := range xs {
			h := all[x.ID]
			if h == nil || err != nil {
				continue
			}
			found++
			if asJSON {
				err = appendHits(&array, x, h)
			} else {
				err = o.print(w, x, h)
			}
		}
		return err
	})
	switch {
	case err != nil:
	case asJSON:
		err = o.selection.print(ctx, w, fmt.Appendf(nil, "[%s]", array.Bytes()))
	case found == 0:
		_, err = fmt.Fprintf(stderr, "trace: nothing found in %s\n", count(int64(len(c.flows)), "flow"))
	}
	return c.end(err)
}

// search returns what there is in flows of one session, by their ids.
func (o *searchOptions) search(ctx context.Context, r *store.Reader, xs []*flow.Exchange) (map[int64]*hits, error) {
	all := map[int64]*hits{}
	of := func(id int64) *hits {
		h := all[id]
		if h == nil {
			h = &hits{more: map[string]int{}}
			all[id] = h
		}
		return h
	}
	ids := make([]int64, len(xs))
	for i, x := range xs {
		ids[i] = x.ID
		searchFacts(x, func(where, text string) { o.inText(x.ID, where, text, of) })
	}
	err := r.Search(ctx, ids, o.find, o.most, func(f store.Found) error {
		of(f.Flow).add(f)
		return nil
	})
	if err == nil {
		err = o.searchAnswers(ctx, r, xs, func(id int64, text string) { o.inText(id, "answer", text, of) })
	}
	return all, err
}

// inText takes in the hits of a text that is not stored as such.
func (o *searchOptions) inText(id int64, where, text string, of func(int64) *hits) {
	p := []byte(text)
	for n, m := range o.find.All(p) {
		h := of(id)
		h.total++
		if n >= o.most {
			h.more[where]++
			continue
		}
		h.list = append(h.list, hit{where: where, index: -1, offset: int64(m[0]), before: p[:m[0]], text: p[m[0]:m[1]], after: p[m[1]:]})
	}
}

// add takes in what the store found.
func (h *hits) add(f store.Found) {
	body := []string{"request", "response"}[f.Side]
	h.total += f.Total
	where := body + ".body"
	if f.Messages {
		where = "message"
	}
	for _, m := range f.Matches {
		hit := hit{where: where, index: m.Index, offset: m.Offset, before: m.Before, text: m.Text, after: m.After}
		switch {
		case f.Messages:
			hit.dir = m.Side.Dir()
		case m.Index >= 0:
			hit.where = body + ".event"
		}
		h.list = append(h.list, hit)
	}
	if n := f.Total - len(f.Matches); n > 0 {
		h.more[where] += n
	}
}

// searchFacts calls in with each text of a flow that its row and heads tell.
func searchFacts(x *flow.Exchange, in func(where, text string)) {
	name := x.Conn.Host
	if sni := x.Conn.Child.SNI; sni != name {
		name = strings.TrimSpace(name + " " + sni)
	}
	if p := x.Request; p != nil && p.Head != nil {
		h := p.Head
		in("request.url", fmt.Sprintf("%s://%s%s", h.Scheme, hostPort(h), h.Path))
		if strings.Contains(strings.ToLower(hostPort(h)), strings.ToLower(name)) {
			name = "" // it was in the URL
		}
		searchFields("request.headers", p, in)
	}
	in("name", name)
	if x.DNS != nil {
		in("dns", strings.Join(append([]string{x.DNS.Type, x.DNS.Name}, x.DNS.Answers...), " "))
	}
	if p := x.Response; p != nil {
		for _, h := range p.Informational {
			searchFields("response.headers", &flow.Part{Head: h}, in)
		}
		if p.Head != nil {
			in("response.status", fmt.Sprintf("%d %s", p.Head.Status, p.Head.Reason))
		}
		searchFields("response.headers", p, in)
	}
	if p := x.Conn.Process; p != nil {
		in("process", strings.Join(append([]string{p.Exe}, p.Argv...), " "))
	}
	if e := x.Error; e != nil {
		in("error", errorText(e))
	}
	for _, n := range x.Marks {
		if n.Error != nil && (x.Error == nil || *n.Error != *x.Error) {
			in("error", errorText(n.Error))
		}
	}
}

func searchFields(where string, p *flow.Part, in func(where, text string)) {
	if p.Head != nil {
		for _, f := range p.Head.Fields {
			in(where, f.Name+": "+f.Value)
		}
	}
	if p.Body != nil {
		for _, f := range p.Body.Trailers {
			in(where, f.Name+": "+f.Value)
		}
	}
}

// hitJSON is a hit in `flows search --json`.
type hitJSON struct {
	Where  string `json:"where"`
	Index  *int   `json:"index,omitempty"`
	Dir    string `json:"dir,omitempty"`
	Offset int64  `json:"offset"`
	Before string `json:"before"`
	Match  string `json:"match"`
	After  string `json:"after"`
}

// jsonContext is how many bytes around a hit stand in JSON.
const jsonContext = 80

// appendHits writes the object of a flow with its hits.
func appendHits(b *bytes.Buffer, x *flow.Exchange, h *hits) error {
	text, err := x.MarshalJSON()
	if err != nil {
		return fmt.Errorf("flow %d: %w", x.ID, err)
	}
	list := make([]hitJSON, 0, len(h.list))
	for _, m := range h.list {
		j := hitJSON{Where: m.where, Dir: m.dir, Offset: m.offset, Match: string(m.text),
			Before: string(ending(m.before, jsonContext)), After: string(beginning(m.after, jsonContext))}
		if m.index >= 0 {
			j.Index = &m.index
		}
		list = append(list, j)
	}
	more, err := flow.MarshalJSON(struct {
		Hits  []hitJSON `json:"hits"`
		Count int       `json:"hit_count"`
	}{list, h.total})
	if err != nil {
		return fmt.Errorf("flow %d: %w", x.ID, err)
	}
	if b.Len() > 0 {
		b.WriteString(",\n")
	}
	if len(text) == 0 || text[len(text)-1] != '}' {
		return errors.New("a flow is no JSON object") // never
	}
	b.Write(text[:len(text)-1])
	b.WriteByte(',')
	b.Write(more[1:])
	return nil
}

// beginning returns at most n bytes of p, cut between letters.
func beginning(p []byte, n int) []byte {
	if len(p) <= n {
		return p
	}
	for n > 0 && !utf8.RuneStart(p[n]) {
		n--
	}
	return p[:n]
}

// ending returns at most the last n bytes of p, cut between letters.
func ending(p []byte, n int) []byte {
	if len(p) <= n {
		n = len(p)
	}
	p = p[len(p)-n:]
	for i := 0; i < len(p) && i < utf8.UTFMax; i++ {
		if utf8.RuneStart(p[i]) {
			return p[i:]
		}
	}
	return p
}

// excerptWidth is how many columns an excerpt takes where there is no terminal.
const excerptWidth = 160

// print prints the hits of a flow, a line each.
func (o *searchOptions) print(w *terminal, x *flow.Exchange, h *hits) error {
	id := fmt.Sprint(x.ID)
	if o.all {
		id = x.Session + "/" + id
	}
	id = pad(id, 4, true)
	for _, m := range h.list {
		where := m.where
		if m.index >= 0 {
			where += fmt.Sprint(" ", m.index)
		}
		where = pad(where, 18, false)
		room := excerptWidth
		if w.width > 0 {
			room = max(20, w.width-columns(id)-columns(where)-2*len(gap))
		}
		if _, err := fmt.Fprintln(w, w.paint(faint, id)+gap+w.paint(cyan, where)+gap+m.excerpt(w, room)); err != nil {
			return err
		}
	}
	for _, where := range []string{"request.headers", "request.body", "response.headers", "response.body", "message", "answer"} {
		if n := h.more[where]; n > 0 {
			line := fmt.Sprintf("… %d more here: --max-count 0 shows all", n)
			if _, err := fmt.Fprintln(w, w.paint(faint, id)+gap+w.paint(cyan, pad(where, 18, false))+gap+w.paint(faint, line)); err != nil {
				return err
			}
		}
	}
	return nil
}

// excerpt is the text around a hit on one line, the hit marked: by colour, or by
// « and » where there is none.
func (m *hit) excerpt(w *terminal, room int) string {
	open, end := "«", "»"
	if w.color {
		open, end = "", ""
	}
	text := shorten(printable(string(m.text)), room*3/4)
	room -= columns(text) + columns(open) + columns(end)
	before, after := printable(string(ending(m.before, room))), printable(string(beginning(m.after, room)))
	left := min(columns(before), max(room/3, room-columns(after)))
	for columns(before) > left {
		_, n := utf8.DecodeRuneInString(before)
		before = before[n:]
	}
	after = shorten(after, room-columns(before))
	return before + open + w.paint(red, text) + end + after
}
