package control

import "time"

// A Status is what `trace status --json` prints.
type Status struct {
	Serve *Serve `json:"serve"` // nil: none runs
	Runs  []Run  `json:"runs"`  // that go on, of this user
}

// A Serve is what a running serve tells of itself.
type Serve struct {
	PID            int        `json:"pid"`
	Version        string     `json:"version"`
	Started        Time       `json:"started"`
	Listeners      []Listener `json:"listeners"`
	Peers          []Peer     `json:"peers"`
	Sessions       []Session  `json:"sessions"` // that go on
	OpenFlows      int64      `json:"open_flows"`
	Flows          int64      `json:"flows"` // of all sessions since the start
	FlowsPerSecond float64    `json:"flows_per_second"`
	Attached       []Attached `json:"attached"`

	// Refused counts what WireGuard did not let in, by why; nil: no WireGuard.
	Refused map[string]uint64 `json:"refused,omitempty"`
}

// A Listener is where clients come in.
type Listener struct {
	Kind string `json:"kind"` // reverse, proxy, wireguard, web, control
	Addr string `json:"addr"`
}

// A Peer is a WireGuard peer that may come in.
type Peer struct {
	Name            string   `json:"name"`
	Key             string   `json:"key,omitempty"`
	Addresses       []string `json:"addresses"`
	Endpoint        string   `json:"endpoint"` // "": not seen yet
	LatestHandshake Time     `json:"latest_handshake"`
	RX              int64    `json:"rx"`
	TX              int64    `json:"tx"`
	Session         string   `json:"session"` // ID; "" while it has none
}

// A Session is one that a serve records.
type Session struct {
	ID      string  `json:"id"`
	Name    string  `json:"name"`
	Label   string  `json:"label"` // what tells its client from others: a peer, a user of the proxy, a label
	Source  string  `json:"source"`
	Started Time    `json:"started"`
	Flows   int64   `json:"flows"`
	Open    int64   `json:"open"`
	Rate    float64 `json:"rate"` // flows a second, of the last ten seconds
	File    string  `json:"file,omitempty"`
}

// An Attached is a run that sends its record to a serve.
type Attached struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	State string `json:"state"` // attached; lost: it has not been heard of for a while
	Since Time   `json:"since"`
	Seen  Time   `json:"seen"` // heard of last
	Flows int64  `json:"flows"`
	Bytes int64  `json:"bytes"` // received
	File  string `json:"file"`
}

// A Run is one that goes on outside of a serve.
type Run struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	Source  string   `json:"source"`
	PID     int      `json:"pid"`
	Argv    []string `json:"argv"`
	Started Time     `json:"started"`
	Flows   int64    `json:"flows"`
	Open    int64    `json:"open"`
	Rate    float64  `json:"rate"` // flows a second, of the last ten seconds
	File    string   `json:"file"`
}

// A Time is a time as JSON has it elsewhere: in UTC with six digits of the second.
// The zero Time is null.
type Time struct{ time.Time }

const timeFormat = "2006-01-02T15:04:05.000000Z"

// MarshalJSON writes the time, or null.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return []byte(t.UTC().Format(`"` + timeFormat + `"`)), nil
}
