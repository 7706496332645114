package importer

import (
	"bufio"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"trace/flow"
)

// readHAR reads an HTTP Archive.
func readHAR(r *bufio.Reader, s *sink) error {
	d := json.NewDecoder(r)
	if err := enter(d, '{'); err != nil {
		return err
	}
	found, err := member(d, "log")
	if err == nil && found {
		err = enter(d, '{')
	}
	if err == nil && found {
		found, err = member(d, "entries")
	}
	switch {
	case err != nil:
		return err
	case !found:
		return errors.New("is no HAR: it has no log.entries")
	}
	if err := enter(d, '['); err != nil {
		return err
	}
	for n := 1; d.More(); n++ {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return fmt.Errorf("entry %d: %w", n, err)
		}
		rec, err := harRecord(raw)
		if err != nil {
			s.bad(Bad{fmt.Sprintf("entry %d", n), err})
			continue
		}
		s.add(rec)
	}
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("behind the last entry: %w", err)
	}
	return nil
}

// enter takes the next token, which must be that delimiter.
func enter(d *json.Decoder, want json.Delim) error {
	t, err := d.Token()
	if err == nil && t != want {
		err = fmt.Errorf("is no HAR: %v stands where %v should", t, want)
	}
	return err
}

// member goes to the value of a member of the object that d is in, over those
// before it.
func member(d *json.Decoder, name string) (bool, error) {
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return false, err
		}
		if t == name {
			return true, nil
		}
		var skip json.RawMessage
		if err := d.Decode(&skip); err != nil {
			return false, err
		}
	}
	return false, nil
}

// number is a number as it should be, or null, or text that is one.
type number float64

func (n *number) UnmarshalJSON(p []byte) error {
	text := strings.Trim(string(p), `"`)
	if text == "null" || text == "" {
		*n = -1
		return nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return fmt.Errorf("%.40s is no number", p)
	}
	*n = number(f)
	return nil
}

// word is a string, or whatever stands in its place.
type word string

func (w *word) UnmarshalJSON(p []byte) error {
	var s string
	if json.Unmarshal(p, &s) != nil {
		s = strings.Trim(string(p), `"`)
	}
	if string(p) != "null" {
		*w = word(s)
	}
	return nil
}

type harPair struct{ Name, Value word }

type harEntry struct {
	Started   string  `json:"startedDateTime"`
	Time      *number `json:"time"`
	Request   *harRequest
	Response  *harResponse
	Timings   harTimings
	ServerIP  word         `json:"serverIPAddress"`
	WebSocket []harMessage `json:"_webSocketMessages"`
	Events    []harEvent   `json:"_eventSourceMessages"`
	Blocks    []harBlock   `json:"_streamEvents"`

	// What trace writes beside.
	Exact      string        `json:"_started"`
	Connection word          `json:"_connectionId"`
	Client     word          `json:"_clientAddress"`
	ServerPort number        `json:"_serverPort"`
	Process    *flow.Process `json:"_process"`
	Details    struct {
		Protocol word `json:"protocol"`
	} `json:"_securityDetails"`
	State   string      `json:"_state"`
	Failure *flow.Error `json:"_failure"`
	Marks   []struct {
		Time number `json:"time"`
		flow.Error
	} `json:"_marks"`
}

type harRequest struct {
	Method, URL string
	Version     word      `json:"httpVersion"`
	Headers     []harPair `json:"headers"`
	BodySize    *number   `json:"bodySize"`
	Post        *struct {
		Text      *string   `json:"text"`
		Encoding  string    `json:"_encoding"`
		Encoding2 string    `json:"encoding"` // others write it so
		Params    []harPair `json:"params"`
		Truncated *number   `json:"_truncated"`
	} `json:"postData"`
	harOwn
	Target    string `json:"_target"`
	Authority string `json:"_authority"`
}

type harResponse struct {
	Status   number
	Text     word      `json:"statusText"`
	Version  word      `json:"httpVersion"`
	Headers  []harPair `json:"headers"`
	BodySize *number   `json:"bodySize"`
	Content  struct {
		Size        *number `json:"size"`
		Compression *number `json:"compression"`
		Text        *string `json:"text"`
		Encoding    string  `json:"encoding"`
		Truncated   *number `json:"_truncated"`
	} `json:"content"`
	Error word `json:"_error"`
	harOwn
	Streaming     bool `json:"_streaming"`
	Informational []struct {
		Status  number
		Text    word `json:"statusText"`
		Headers []harPair
	} `json:"_informational"`
}

// harOwn is what trace writes beside, of both sides.
type harOwn struct {
	Trailers []harPair `json:"_trailers"`
	SHA256   string    `json:"_bodySha256"`
	Stream   number    `json:"_streamId"`
	Protocol string    `json:"_protocol"`
}

type harTimings struct{ Blocked, DNS, Connect, SSL, Send, Wait, Receive *number }

type harMessage struct {
	Type       string
	Time       number
	Opcode     number
	Data       string
	Size       *number `json:"_size"`
	Base64     string  `json:"_base64"`
	Compressed bool    `json:"_compressed"`
	SHA256     string  `json:"_sha256"`
}

type harEvent struct{ Time number }

type harBlock struct {
	Type     string
	Time     number
	Data     string
	Encoding string
}

// harRecord reads one entry.
func harRecord(raw json.RawMessage) (*record, error) {
	var e harEntry
	if err := json.Unmarshal(raw, &e); err != nil {
		return nil, err
	}
	if e.Request == nil || e.Request.Method == "" || e.Request.URL == "" {
		return nil, errors.New("it has no request with method and URL")
	}
	started, err := parseTime(e.Started)
	if err != nil {
		return nil, err
	}
	r := &record{conn: string(e.Connection)}
	if r.request, err = e.Request.head(); err != nil {
		return nil, err
	}
	r.kind = flow.KindHTTP
	e.times(r, started)
	e.connection(r)
	if err := e.Request.body(&r.requestBody); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if err := e.answer(r); err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	e.outcome(r)
	e.streams(r)
	return r, e.messages(r)
}

func parseTime(s string) (time.Time, error) {
	for _, form := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(form, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is no time", s)
}

// moment reads seconds since 1970, or milliseconds where that cannot be.
func (n number) moment() time.Time {
	if n <= 0 {
		return time.Time{}
	}
	if n > 1e11 {
		n /= 1000
	}
	return time.UnixMicro(int64(float64(n)*1e6 + 0.5)).UTC()
}

// span is a duration in milliseconds, 0 of what is not told.
func (n *number) span() time.Duration {
	if n == nil || *n <= 0 || *n > 1e12 {
		return 0
	}
	return time.Duration(float64(*n)*1000+0.5) * time.Microsecond
}

// times works out when the phases were. An entry begins with the making of its
// connection.
func (e *harEntry) times(r *record, started time.Time) {
	t := &e.Timings
	r.facts.DNS, r.facts.Connect, r.facts.SSL = t.DNS.span(), t.Connect.span(), t.SSL.span()
	r.started = started.Add(t.Blocked.span() + r.facts.DNS + r.facts.Connect)
	if exact, err := parseTime(e.Exact); err == nil {
		r.started = exact
	}
	r.requestEnded = r.started.Add(t.Send.span())
	r.responded = r.requestEnded.Add(t.Wait.span())
	r.ended = r.responded.Add(t.Receive.span())
	if e.Time != nil && t.Wait == nil && t.Receive == nil {
		r.ended = started.Add(e.Time.span())
	}
}

func (e *harEntry) connection(r *record) {
	c := &r.facts
	h := r.request
	c.Transport, c.Protocol, c.Host, c.Decrypted, c.Process = "tcp", "http", h.Host, h.Scheme == "https", e.Process
	if h.Version == "2" {
		c.Protocol = "http2"
	}
	if c.ID, _ = strconv.ParseInt(string(e.Connection), 10, 64); c.ID < 0 {
		c.ID = 0
	}
	port := h.Port
	if e.ServerPort > 0 && e.ServerPort < 1<<16 {
		port = int(e.ServerPort)
	}
	if ip, err := netip.ParseAddr(strings.Trim(string(e.ServerIP), "[]")); err == nil {
		c.Dst = netip.AddrPortFrom(ip, uint16(port))
	}
	c.Src, _ = netip.ParseAddrPort(string(e.Client))
	if c.Decrypted {
		if name, err := netip.ParseAddr(h.Host); err != nil || !name.IsValid() {
			c.Child.SNI = h.Host
		}
		c.Child.ALPN = map[string]string{"2": "h2", "1.1": "http/1.1"}[h.Version]
		if v, ok := strings.CutPrefix(string(e.Details.Protocol), "TLS "); ok {
			c.Child.Version, c.Upstream.Version = v, v
		}
	}
}

// head makes the head of the request.
func (q *harRequest) head() (*flow.Head, error) {
	u, err := url.Parse(q.URL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%.200q is no absolute URL", q.URL)
	}
	h := &flow.Head{Method: q.Method, Scheme: strings.ToLower(u.Scheme), Host: strings.ToLower(u.Hostname()), Version: version(q.Version), Protocol: q.Protocol}
	if web, ok := map[string]string{"ws": "http", "wss": "https"}[h.Scheme]; ok {
		h.Scheme = web
	}
	if h.Port, _ = strconv.Atoi(u.Port()); h.Port == 0 {
		if h.Port = 80; h.Scheme == "https" {
			h.Port = 443
		}
	}
	_, rest, _ := strings.Cut(q.URL, "://")
	h.Path = "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		h.Path, _, _ = strings.Cut(rest[i:], "#")
		if h.Path[0] == '?' {
			h.Path = "/" + h.Path
		}
	}
	h.Target = cmp.Or(q.Target, h.Path)
	if !strings.Contains(h.Target, "://") {
		h.Path = h.Target
	}
	h.Stream = int64(max(0, q.Stream))
	h.Fields = headFields(q.Headers, func(name, value string) {
		switch name {
		case ":authority":
			h.Authority = value
		}
	})
	if h.Version == "2" {
		h.Authority = cmp.Or(q.Authority, h.Authority, u.Host)
	}
	return h, nil
}

// headFields reads a list of header fields. Pseudo-header fields are handed to
// pseudo.
func headFields(ps []harPair, pseudo func(name, value string)) []flow.Field {
	fs := make([]flow.Field, 0, len(ps))
	for _, p := range ps {
		if strings.HasPrefix(string(p.Name), ":") {
			if pseudo != nil {
				pseudo(string(p.Name), string(p.Value))
			}
			continue
		}
		fs = append(fs, flow.Field{Name: string(p.Name), Value: string(p.Value)})
	}
	return fs
}

// version reads the many ways in which versions are written.
func version(w word) string {
	v := strings.TrimPrefix(strings.ToLower(string(w)), "http/")
	switch v {
	case "h2", "2.0", "2":
		return "2"
	case "h3", "3.0", "3", "quic", "h3-29":
		return "3"
	case "1.0", "0.9":
		return v
	}
	return "1.1"
}

// decoded is text, or what base64 text stands for.
func decoded(text, encoding string) ([]byte, error) {
	if !strings.EqualFold(encoding, "base64") {
		return []byte(text), nil
	}
	p, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		if p, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "=")); err != nil {
			return nil, fmt.Errorf("base64 of the body: %w", err)
		}
	}
	return p, nil
}
