package web

import (
	"trace/flow"
)

// maxSessions bounds the list of sessions.
const maxSessions = 200

// A session is what there is to say of one.
type session struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Source   string    `json:"source"`
	Argv     []string  `json:"argv"`
	Dir      string    `json:"dir"`
	Started  string    `json:"started"`
	Ended    *string   `json:"ended"`
	State    string    `json:"state"`
	Live     bool      `json:"live"`
	Flows    int64     `json:"flows"`
	Opaque   int64     `json:"opaque"`
	Gaps     int64     `json:"gaps"`
	Exit     *int      `json:"exit"`
	Secrets  bool      `json:"secrets"`
	File     string    `json:"file"`
	Bytes    int64     `json:"bytes"`
	Version  string    `json:"version"` // of the trace that recorded it
	Server   string    `json:"server"`  // of this one
	Sessions *[]listed `json:"sessions,omitempty"`
	Can      *[]string `json:"can,omitempty"`
}

// A listed is a session in the list of all.
type listed struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	State   string   `json:"state"`
	Source  string   `json:"source"`
	Argv    []string `json:"argv"`
	Started string   `json:"started"`
	Flows   int64    `json:"flows"`
	Bytes   int64    `json:"bytes"`
}

func (s *Server) sessionJSON(f flow.Session) *session {
	j := &session{ID: f.ID, Name: f.Name, Source: string(f.Source), Argv: append([]string{}, f.Argv...), Dir: f.Dir, Started: flow.Stamp(f.Started),
		State: f.State, Live: f.State == "running", Flows: f.Flows, Opaque: f.Opaque, Gaps: f.Gaps, Secrets: f.Secrets, File: f.File, Bytes: f.Bytes,
		Version: f.Version, Server: s.Version}
	if !f.Ended.IsZero() {
		j.Ended, j.Exit = new(flow.Stamp(f.Ended)), &f.Exit
	}
	return j
}

// session answers what is known of a session, and of which others there are.
func (q *request) session() error {
	f, err := q.rec.Session()
	if err != nil {
		return err
	}
	j := q.s.sessionJSON(f)
	all, err := q.s.Source.Newest(maxSessions)
	if err != nil {
		q.s.log("web: sessions: %v", err) // the one that is shown can be shown all the same
	}
	listedAll := []listed{}
	for i := range all[:min(len(all), maxSessions)] {
		f := &all[i]
		listedAll = append(listedAll, listed{f.ID, f.Name, f.State, string(f.Source), append([]string{}, f.Argv...), flow.Stamp(f.Started), f.Flows, f.Bytes})
	}
	j.Sessions = &listedAll
	j.Can = new(q.s.Views.offered())
	return q.json(j, nil)
}

// offered names what the server can do beside showing.
func (v *Views) offered() []string {
	can := []string{}
	for _, o := range []struct {
		name string
		is   bool
	}{{"replay", v.Replay != nil}, {"export", v.Export != nil}, {"diff", v.Diff != nil}, {"compare", v.Compare != nil}, {"calls", v.Call != nil}} {
		if o.is {
			can = append(can, o.name)
		}
	}
	return can
}
