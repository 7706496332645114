package otel

import (
	"errors"
	"fmt"
	"net/http"
	neturl "net/url"
	"strings"
)

// FromEnvironment is the URL that stands for what OTEL_EXPORTER_OTLP_ENDPOINT
// and its kin name.
const FromEnvironment = "env"

// An Endpoint is where spans and metrics are sent.
type Endpoint struct {
	Traces, Metrics string      // URLs
	Header          http.Header // of every request; secret
	JSON            bool        // and not protobuf
	Gzip            bool
}

// Host returns the endpoint for people: without what is secret in it.
func (e *Endpoint) Host() string {
	u, err := neturl.Parse(e.Traces)
	if err != nil {
		return "?"
	}
	u.RawQuery = ""
	u.User = nil
	return u.String()
}

// ParseEndpoint reads the URL of an endpoint: its base, as
// OTEL_EXPORTER_OTLP_ENDPOINT has it, or that of its traces, which ends in
// /v1/traces; or FromEnvironment. Header fields, compression and encoding are
// taken from OTEL_EXPORTER_OTLP_HEADERS, _COMPRESSION and _PROTOCOL.
func ParseEndpoint(raw string, environ []string) (*Endpoint, error) {
	env := func(name string) string { return lookup(environ, "OTEL_EXPORTER_OTLP_"+name) }
	e := &Endpoint{Header: http.Header{}}
	var err error
	if raw == FromEnvironment {
		if e.Traces = env("TRACES_ENDPOINT"); e.Traces != "" { // taken as it is
			raw = strings.TrimSuffix(strings.TrimSuffix(e.Traces, "/"), "/v1/traces")
		} else if raw = env("ENDPOINT"); raw == "" {
			return nil, errors.New("OTEL_EXPORTER_OTLP_ENDPOINT is not set")
		}
		e.Metrics = env("METRICS_ENDPOINT")
	}
	u, err := neturl.Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("not a URL: %w", errors.Unwrap(err))
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Hostname() == "":
		return nil, errors.New("want a URL such as http://127.0.0.1:4318")
	case u.Fragment != "":
		return nil, errors.New("a URL of an endpoint has no #fragment")
	}
	base := *u
	base.RawPath = ""
	base.Path = strings.TrimRight(strings.TrimSuffix(strings.TrimRight(u.Path, "/"), "/v1/traces"), "/")
	for signal, to := range map[string]*string{"/v1/traces": &e.Traces, "/v1/metrics": &e.Metrics} {
		if *to == "" {
			of := base
			of.Path += signal
			*to = of.String()
		}
	}
	if err := e.protocol(env); err != nil {
		return nil, err
	}
	for _, name := range []string{"HEADERS", "TRACES_HEADERS"} {
		for _, pair := range pairs(env(name)) {
			if !validField(pair[0], pair[1]) {
				return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_%s: not a list of name=value that are header fields", name)
			}
			e.Header.Set(pair[0], pair[1])
		}
	}
	return e, nil
}

// protocol reads how bodies are to be encoded.
func (e *Endpoint) protocol(env func(string) string) error {
	switch p := env("PROTOCOL"); p {
	case "", "http/protobuf", "grpc": // which other programs may be told; here it is HTTP, as the URL says
	case "http/json":
		e.JSON = true
	default:
		return fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL %q: want http/protobuf or http/json", p)
	}
	switch c := env("COMPRESSION"); c {
	case "", "none":
	case "gzip":
		e.Gzip = true
	default:
		return fmt.Errorf("OTEL_EXPORTER_OTLP_COMPRESSION %q: want gzip or none", c)
	}
	return nil
}

// lookup returns the last value of a variable.
func lookup(environ []string, name string) string {
	value := ""
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return strings.TrimSpace(value)
}

// pairs reads a list as W3C baggage has it: name=value,name=value, with values
// that are percent-encoded.
func pairs(list string) [][2]string {
	var all [][2]string
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		name, value, _ := strings.Cut(item, "=")
		value = strings.TrimSpace(value)
		if plain, err := neturl.PathUnescape(value); err == nil {
			value = plain
		}
		all = append(all, [2]string{strings.TrimSpace(name), value})
	}
	return all
}

// resourcePairs are the attributes that the environment gives a resource.
func resourcePairs(environ []string) [][2]string {
	var all [][2]string
	for _, pair := range pairs(lookup(environ, "OTEL_RESOURCE_ATTRIBUTES")) {
		if pair[0] != "" {
			all = append(all, pair)
		}
	}
	if name := lookup(environ, "OTEL_SERVICE_NAME"); name != "" {
		all = append(all, [2]string{"service.name", name})
	}
	return all
}

// validField reports whether name and value can be a header field (RFC 9110
// section 5).
func validField(name, value string) bool {
	if name == "" || strings.ContainsAny(value, "\r\n\x00") {
		return false
	}
	for _, r := range name {
		if r > '~' || r <= ' ' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r) {
			return false
		}
	}
	return true
}
