package main

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"trace/flow"
	"trace/replay"
	"trace/store"
)

// playOptions are the flags of a run that is answered from a recorded session.
type playOptions struct {
	session string
	fast    bool
	exact   bool
}

func (o *playOptions) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.session, "play", "", "answer the command from the recorded `SESSION` (ID, NAME or FILE); nothing is dialled")
	f.BoolVar(&o.fast, "fast", false, "with --play: answers come at once, not when they came")
	f.BoolVar(&o.exact, "exact", false, "with --play: a request that differs from the recorded ones is not answered by the nearest")
}

// check reports flags that make no sense.
func (o *playOptions) check() error {
	if o.session == "" && (o.fast || o.exact) {
		return errors.New("--fast and --exact go with --play SESSION")
	}
	return nil
}

// A playing is the session that a run is answered from.
type playing struct {
	*replay.Player
	reader *store.Reader
	label  string
}

// open reads the session. nil: the run goes to the real servers.
func (o *playOptions) open() (*playing, error) {
	if o.session == "" {
		return nil, nil
	}
	r, err := openSession(o.session)
	if err != nil {
		return nil, fmt.Errorf("--play: %w", err)
	}
	p := &playing{reader: r, label: sessionLabel(r)}
	if err := p.read(o); err != nil {
		r.Close()
		return nil, fmt.Errorf("--play: %w", err)
	}
	return p, nil
}

func (p *playing) read(o *playOptions) error {
	s, err := p.reader.Session()
	if err != nil {
		return err
	}
	xs, err := p.reader.Flows(store.Query{Heads: true})
	if err != nil {
		return err
	}
	opt := replay.PlayOptions{Load: p.reader.Detail, Fast: o.fast, Exact: o.exact}
	if s.Secrets {
		opt.Raw = p.raw
	}
	p.Player, err = replay.NewPlayer(s.ID, p.withChains(xs), opt)
	return err
}

// raw reads an answer as it was on the wire.
func (p *playing) raw(id int64) ([]byte, error) {
	var b bytes.Buffer
	_, err := p.reader.WriteRaw(&b, id, flow.Server)
	return b.Bytes(), err
}

// withChains fills in the certificates of servers, which lists leave out, of one
// flow for each.
func (p *playing) withChains(xs []*flow.Exchange) []*flow.Exchange {
	known := map[string]bool{}
	for i, x := range xs {
		if x.Request == nil || x.Conn.Upstream.Version == "" || known[x.Conn.Host] {
			continue
		}
		if whole, err := p.reader.Flow(x.ID); err == nil {
			xs[i], known[x.Conn.Host] = whole, true
		}
	}
	return xs
}

// close ends what is served.
func (p *playing) close() {
	if p != nil {
		p.Player.Close()
		closing(p.reader)
	}
}

// text says after the run what was answered.
func (p *playing) text() []string {
	rep := p.Report()
	line := fmt.Sprintf("played %s: %s answered", p.label, count(int64(rep.Answered), "request"))
	if rep.Near > 0 {
		line += fmt.Sprintf(" (%d by the nearest recorded)", rep.Near)
	}
	if rep.Missed == 0 {
		return []string{line + ", none unmatched"}
	}
	lines := []string{line + fmt.Sprintf(", %d unmatched:", rep.Missed)}
	for _, u := range rep.Unmatched {
		lines = append(lines, "  "+shorten(printable(u), 400))
	}
	if more := rep.Missed - len(rep.Unmatched); more > 0 {
		lines = append(lines, fmt.Sprintf("  and %d more", more))
	}
	return lines
}
