package trace_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// A span is a duration as the Collector reads one.
type span time.Duration

func (s *span) UnmarshalYAML(n *yaml.Node) error {
	d, err := time.ParseDuration(n.Value)
	*s = span(d)
	return err
}

// A hostPort is an address to listen at or to dial.
type hostPort string

func (h *hostPort) UnmarshalYAML(n *yaml.Node) error {
	_, _, err := net.SplitHostPort(strings.TrimPrefix(n.Value, "tcp://"))
	*h = hostPort(n.Value)
	return err
}

// sendingQueue is what exporters have in common.
type sendingQueue struct {
	Storage string
	Batch   *struct {
		MinSize      int64 `yaml:"min_size"`
		FlushTimeout span  `yaml:"flush_timeout"`
	}
}

// collectorParts are the components that docs/collector.yaml uses, with those of
// their settings that it may set.
var collectorParts = map[string]map[string]func() any{
	"extensions": {
		"bearertokenauth": func() any { return &struct{ Filename string }{} },
		"file_storage": func() any {
			return &struct {
				Directory       string
				CreateDirectory bool `yaml:"create_directory"`
			}{}
		},
		"health_check": func() any { return &struct{ Endpoint hostPort }{} },
	},
	"receivers": {"otlp": func() any {
		return &struct {
			Protocols struct {
				HTTP *struct {
					Endpoint hostPort
					Auth     struct{ Authenticator string }
					TLS      struct {
						CertFile string `yaml:"cert_file"`
						KeyFile  string `yaml:"key_file"`
					}
				}
			}
		}{}
	}},
	"processors": {
		"memory_limiter": func() any {
			return &struct {
				CheckInterval span  `yaml:"check_interval"`
				Limit         int64 `yaml:"limit_mib"`
				Spike         int64 `yaml:"spike_limit_mib"`
			}{}
		},
		"filter": func() any {
			return &struct {
				ErrorMode string `yaml:"error_mode"`
				Traces    struct{ Span []string }
			}{}
		},
	},
	"exporters": {
		"clickhouse": func() any {
			return &struct {
				Endpoint                     hostPort
				Database, Username, Password string
				CreateSchema                 bool `yaml:"create_schema"`
				TTL, Timeout                 span
				Queue                        sendingQueue `yaml:"sending_queue"`
			}{}
		},
		"otlp_grpc": func() any {
			return &struct {
				Endpoint hostPort
				TLS      struct{ Insecure bool }
				Queue    sendingQueue `yaml:"sending_queue"`
			}{}
		},
		"otlp_http": func() any {
			return &struct {
				Endpoint string
				Headers  map[string]string
				Queue    sendingQueue `yaml:"sending_queue"`
			}{}
		},
	},
}

// TestCollector: the Collector's configuration that docs/fleet.md gives is YAML, sets
// what its components know, and joins what it declares. The Collector itself is not
// asked.
func TestCollector(t *testing.T) {
	text, err := os.ReadFile("docs/collector.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := checkCollector(string(text)); err != nil {
		t.Error(err)
	}
	for _, c := range [][2]string{{"min_size", "minsize"}, {"exporters: [clickhouse]", "exporters: [clickhous]"}, {"  health_check:", "  health_chekc:"}, {"check_interval: 1s", "check_interval: 1"},
		{"tempo:4317", "tempo"}, {"storage: file_storage", "storage: file"}, {"${env:CLICKHOUSE_PASSWORD}", "${CLICKHOUSE_PASSWORD}"}, {"file_storage, health_check]", "file_storage]"}, {"\n  otlp:\n", "\n\totlp:\n"}} {
		if wrong := strings.Replace(string(text), c[0], c[1], 1); wrong == string(text) || checkCollector(wrong) == nil {
			t.Errorf("%q for %q is not found to be wrong", c[1], c[0])
		}
	}
}

func checkCollector(text string) error {
	var file struct {
		Extensions, Receivers, Processors, Exporters map[string]yaml.Node
		Service                                      struct {
			Extensions []string
			Pipelines  map[string]struct{ Receivers, Processors, Exporters []string }
		}
	}
	d := yaml.NewDecoder(strings.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil {
		return err
	}
	if err := d.Decode(&file); !errors.Is(err, io.EOF) {
		return fmt.Errorf("more than one document: %v", err)
	}
	if m := regexp.MustCompile(`\$(\{[^}]*\}?)?`).FindAllString(text, -1); slices.ContainsFunc(m, func(s string) bool { return !regexp.MustCompile(`^\$\{env:[A-Z_]+\}$`).MatchString(s) }) {
		return fmt.Errorf("variables %q", m)
	}
	used := map[string][]string{"extensions": file.Service.Extensions}
	for name, p := range file.Service.Pipelines {
		if kind, _, _ := strings.Cut(name, "/"); kind != "traces" && kind != "metrics" || len(p.Receivers) == 0 || len(p.Exporters) == 0 {
			return fmt.Errorf("pipeline %s: %+v", name, p)
		}
		used["receivers"] = append(used["receivers"], p.Receivers...)
		used["processors"] = append(used["processors"], p.Processors...)
		used["exporters"] = append(used["exporters"], p.Exporters...)
	}
	for kind, declared := range map[string]map[string]yaml.Node{"extensions": file.Extensions, "receivers": file.Receivers, "processors": file.Processors, "exporters": file.Exporters} {
		if err := checkParts(kind, declared); err != nil {
			return err
		}
		slices.Sort(used[kind])
		if names := slices.Sorted(maps.Keys(declared)); !slices.Equal(names, slices.Compact(used[kind])) {
			return fmt.Errorf("%s: declared are %v, used %v", kind, names, used[kind])
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\s+(?:storage|authenticator): (\S+)`).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(file.Service.Extensions, m[1]) {
			return fmt.Errorf("%s: no such extension", m[0])
		}
	}
	return nil
}

func checkParts(kind string, declared map[string]yaml.Node) error {
	for name, node := range declared {
		base, _, _ := strings.Cut(name, "/")
		part := collectorParts[kind][base]
		if part == nil {
			return fmt.Errorf("%s: no component %s", kind, name)
		}
		own, err := yaml.Marshal(&node)
		if err != nil {
			return err
		}
		d := yaml.NewDecoder(strings.NewReader(string(own)))
		d.KnownFields(true)
		if err := d.Decode(part()); err != nil {
			return fmt.Errorf("%s %s: %w", kind, name, err)
		}
	}
	return nil
}
