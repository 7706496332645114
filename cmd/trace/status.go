package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"trace/control"
	"trace/flow"
	"trace/store"
)

// statusPatience is how long a serve may take to tell of itself. A variable for tests.
var statusPatience = 5 * time.Second

// rateTime is the time over which rates are taken.
const rateTime = 10 * time.Second

// newServeStatusCommand makes `trace status`.
func newServeStatusCommand() *cobra.Command {
	var asJSON bool
	var socket string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the running trace serve and the runs that go on",
		Long: `Show the trace serve that runs, where it listens, its peers and sessions, and the
runs that go on, with what they carry. That no serve runs is no error.`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, silent, err := statusNow(cmd.Context(), socket)
			if err != nil {
				return exitError{1, err}
			}
			if asJSON {
				text, err := flow.MarshalJSON(s)
				if err == nil {
					err = writeJSON(output(cmd), text)
				}
				if err != nil {
					return err
				}
			} else if err := writeStatus(output(cmd), s, silent == nil, time.Now()); err != nil {
				return err
			}
			if silent != nil {
				return exitError{1, silent}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	cmd.Flags().StringVar(&socket, "socket", "", "the `SOCKET` of the trace serve")
	return cmd
}

// statusNow asks the serve at socket, and looks for runs. A serve that cannot be asked
// is told of, and hides no run.
func statusNow(ctx context.Context, socket string) (st *control.Status, silent, err error) {
	if ctx == nil {
		ctx = context.Background()
	}
	st = &control.Status{}
	if st.Serve, silent = control.Ask(ctx, socket, statusPatience); errors.Is(silent, control.ErrNoServe) {
		silent = nil
	}
	dir, err := sessionsDir()
	if err == nil {
		st.Runs, err = liveRuns(dir, st.Serve, time.Now())
	}
	return st, silent, err
}

// liveRuns returns the sessions in dir that go on and are not serve's own.
func liveRuns(dir string, serve *control.Serve, now time.Time) ([]control.Run, error) {
	runs := []control.Run{}
	sessions, err := store.ListRunning(dir)
	for i := range sessions {
		s := &sessions[i]
		if serve != nil && serves(serve, s) {
			continue
		}
		t, err := countFlows(s.File, now)
		if err != nil { // it has ended just now
			continue
		}
		runs = append(runs, control.Run{
			ID: s.ID, Name: s.Name, Source: string(s.Source), PID: s.PID, Argv: append([]string{}, s.Argv...), Started: control.Time{Time: s.Started},
			Flows: t.Flows, Open: t.Open, Rate: flowRate(t, s.Started, now), File: s.File,
		})
	}
	return runs, err
}

// serves tells whether a session is one that serve records itself, or one whose run
// it has not heard of.
func serves(serve *control.Serve, s *flow.Session) bool {
	return s.PID == serve.PID ||
		slices.ContainsFunc(serve.Sessions, func(x control.Session) bool { return x.ID == s.ID }) ||
		slices.ContainsFunc(serve.Attached, func(x control.Attached) bool { return x.ID == s.ID && x.State != "attached" && x.File == s.File })
}

// countFlows counts the flows of a session.
func countFlows(file string, now time.Time) (store.Tally, error) {
	r, err := store.Open(file)
	if err != nil {
		return store.Tally{}, err
	}
	defer r.Close()
	return r.Tally(now.Add(-rateTime))
}

// flowRate is how many flows began in a second, of the last ten or of those since
// the start.
func flowRate(t store.Tally, started, now time.Time) float64 {
	took := min(rateTime, max(now.Sub(started), time.Second))
	return float64(t.Recent) / took.Seconds()
}

// writeStatus prints what there is for people. sure says that there is no serve where
// none is told of.
func writeStatus(w *terminal, st *control.Status, sure bool, now time.Time) error {
	if st.Serve != nil {
		if err := writeServe(w, st.Serve, now); err != nil {
			return err
		}
	} else if sure {
		fmt.Fprintln(w, "no trace serve runs")
	}
	if len(st.Runs) == 0 {
		_, err := fmt.Fprintln(w, "no runs go on")
		return err
	}
	t := table{columns: []column{
		{title: "RUN"}, {title: "NAME", least: 6, wish: 16}, {title: "PID", right: true, drop: 3}, {title: "SINCE", right: true, drop: 2}, {title: "FLOWS", right: true},
		{title: "OPEN", right: true}, {title: "RATE", right: true, drop: 4}, {title: "COMMAND", least: 8, wish: 16, drop: 1},
	}}
	for _, r := range st.Runs {
		t.add(cell{text: r.ID}, cell{text: r.Name}, cell{text: fmt.Sprint(r.PID)}, cell{text: ageText(r.Started, now)}, cell{text: fmt.Sprint(r.Flows)},
			cell{text: fmt.Sprint(r.Open)}, cell{text: perSecond(r.Rate)}, cell{text: strings.Join(r.Argv, " ")})
	}
	return t.write(w)
}

func writeServe(w *terminal, s *control.Serve, now time.Time) error {
	fmt.Fprintf(w, "trace serve %s, process %d, since %s: %s, %d open, %s\n", printable(s.Version), s.PID, s.Started.Local().Format("2006-01-02 15:04:05"),
		count(s.Flows, "flow"), s.OpenFlows, perSecond(s.FlowsPerSecond))
	if len(s.Refused) > 0 {
		fmt.Fprintf(w, "not let in by WireGuard: %s\n", refusedText(s.Refused))
	}
	for _, t := range []*table{listeners(s), peerTable(s, now), served(s, now), attachedRuns(s, now)} {
		if len(t.rows) == 0 {
			continue
		}
		io.WriteString(w, "\n")
		if err := t.write(w); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func listeners(s *control.Serve) *table {
	t := &table{columns: []column{{title: "LISTENER"}, {title: "ADDRESS"}}}
	for _, l := range s.Listeners {
		t.add(cell{text: l.Kind}, cell{text: l.Addr})
	}
	return t
}

// refusedText lists counts by their names.
func refusedText(counts map[string]uint64) string {
	var list []string
	for _, why := range slices.Sorted(maps.Keys(counts)) {
		list = append(list, fmt.Sprintf("%s %d", printable(why), counts[why]))
	}
	return strings.Join(list, ", ")
}

func peerTable(s *control.Serve, now time.Time) *table {
	t := &table{columns: []column{
		{title: "PEER", least: 6, wish: 16}, {title: "ADDRESS", least: 8, wish: 16, drop: 3}, {title: "ENDPOINT", drop: 2}, {title: "HANDSHAKE", right: true},
		{title: "RECEIVED", right: true, drop: 4}, {title: "SENT", right: true, drop: 5}, {title: "SESSION", drop: 1},
	}}
	for _, p := range s.Peers {
		t.add(cell{text: p.Name}, cell{text: strings.Join(p.Addresses, " ")}, cell{text: p.Endpoint}, cell{text: ageText(p.LatestHandshake, now)},
			cell{text: sizeText(p.RX)}, cell{text: sizeText(p.TX)}, cell{text: p.Session})
	}
	return t
}

func served(s *control.Serve, now time.Time) *table {
	t := &table{columns: []column{
		{title: "SESSION"}, {title: "NAME", least: 6, wish: 16}, {title: "LABEL", least: 6, wish: 16, drop: 1}, {title: "SOURCE", drop: 3}, {title: "SINCE", right: true, drop: 2},
		{title: "FLOWS", right: true}, {title: "OPEN", right: true}, {title: "RATE", right: true, drop: 4},
	}}
	for _, x := range s.Sessions {
		t.add(cell{text: x.ID}, cell{text: x.Name}, cell{text: x.Label}, cell{text: x.Source}, cell{text: ageText(x.Started, now)},
			cell{text: fmt.Sprint(x.Flows)}, cell{text: fmt.Sprint(x.Open)}, cell{text: perSecond(x.Rate)})
	}
	return t
}

func attachedRuns(s *control.Serve, now time.Time) *table {
	t := &table{columns: []column{
		{title: "ATTACHED"}, {title: "NAME", least: 6, wish: 16}, {title: "PID", right: true, drop: 2}, {title: "STATE"}, {title: "SEEN", right: true, drop: 1},
		{title: "FLOWS", right: true}, {title: "BYTES", right: true, drop: 3},
	}}
	for _, x := range s.Attached {
		st := map[string]style{"attached": green, "lost": red}[x.State]
		t.add(cell{text: x.ID}, cell{text: x.Name}, cell{text: fmt.Sprint(x.PID)}, cell{x.State, st}, cell{text: ageText(x.Seen, now)},
			cell{text: fmt.Sprint(x.Flows)}, cell{text: sizeText(x.Bytes)})
	}
	return t
}

// ageText says how long ago t was.
func ageText(t control.Time, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return tookText(max(0, now.Sub(t.Time)))
}

func perSecond(rate float64) string { return fmt.Sprintf("%.1f/s", rate) }
