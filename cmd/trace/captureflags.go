package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"trace/egress"
	"trace/mitm"
	"trace/otel"
	"trace/proxy"
	"trace/trust"
)

// captureFlags are the flags of `trace run` and `trace serve` that say how
// connections are carried and what is kept of them, as given.
type captureFlags struct {
	connectTo   []string
	upstreamCA  []string
	untrusted   []string
	only        []string
	bypass      []string
	keepSecrets bool
	maxBody     string
	prices      string
	log         string
	otlp        otlpFlags
	budget      []string
	budgetStop  bool
	rulesFile   string
}

func (c *captureFlags) register(f *pflag.FlagSet) {
	f.StringArrayVar(&c.connectTo, "connect-to", nil, "carry connections for `HOST:PORT:HOST2:PORT2`, as curl's; repeatable")
	f.StringArrayVar(&c.upstreamCA, "upstream-ca", nil, "trust the PEM roots in `FILE` towards servers, besides the host's; repeatable")
	f.StringArrayVar(&c.untrusted, "decrypt-untrusted", nil, "decrypt names that match `GLOB` although their issuer is unknown; repeatable")
	f.StringArrayVar(&c.only, "only", nil, "decrypt only names that match `GLOB`; repeatable")
	f.StringArrayVar(&c.bypass, "bypass", nil, "never decrypt names that match `GLOB`; repeatable")
	f.BoolVar(&c.keepSecrets, "keep-secrets", false, "do not redact")
	f.StringVar(&c.maxBody, "max-body", defaultMaxBody, "keep this much of a body (`SIZE` such as 64K, 16M; 0 keeps all)")
	c.otlp.register(f)
	f.StringVar(&c.prices, "prices", "", "work costs out with the prices of this `FILE`")
	f.StringArrayVar(&c.budget, "budget", nil, "warn at the end if calls to language models used so much (`tokens=N` or cost=N); repeatable")
	f.BoolVar(&c.budgetStop, "budget-stop", false, "answer further calls with 429 when a budget is used up")
	f.StringVar(&c.rulesFile, "rules", "", "alter traffic as the rules in `FILE` say (docs/rules.md)")
	f.StringVar(&c.log, "log", "", "write trace's own diagnostics to `FILE`")
}

// rules are captureFlags as they are used.
type rules struct {
	connectTo []mitm.ConnectTo
	extra     []*x509.Certificate // roots of --upstream-ca
	untrusted []string
	only      []string
	bypass    []string
	limit     bodyLimit
	secrets   bool           // may be recorded
	prices    *priceList     // nil: none are known
	out       *egress.Dialer // through the host's proxies

	otlp        *otel.Endpoint // nil: nothing is sent
	otlpContent bool
	budget      *budget // nil: none
	budgetStop  bool
	alter       *proxy.Alter // nil: traffic is not altered
}

// rules reads the values and reports the first that makes no sense.
func (c *captureFlags) rules() (rules, error) {
	r := rules{untrusted: c.untrusted, only: c.only, bypass: c.bypass, secrets: c.keepSecrets}
	n, err := parseSize(c.maxBody)
	if err != nil {
		return r, fmt.Errorf("--max-body %q: %w", c.maxBody, err)
	}
	if r.limit = bodyLimit(n); n == 0 {
		r.limit = -1
	}
	for _, g := range slices.Concat(c.untrusted, c.only, c.bypass) {
		if _, err := filepath.Match(g, ""); err != nil || g == "" {
			return r, fmt.Errorf("pattern %q: not a valid glob", g)
		}
	}
	for _, s := range c.connectTo {
		to, err := mitm.ParseConnectTo(s)
		if err != nil {
			return r, fmt.Errorf("--connect-to %q: %w", s, err)
		}
		r.connectTo = append(r.connectTo, to)
	}
	if r.extra, err = trust.LoadRoots(c.upstreamCA...); err != nil {
		return r, fmt.Errorf("--upstream-ca: %w", err)
	}
	if r.otlp, err = c.otlp.endpoint("--otlp"); err != nil {
		return r, err
	}
	if c.otlp.content && r.otlp == nil {
		return r, errors.New("--otlp-content is of no use without --otlp URL")
	}
	r.otlpContent = c.otlp.content
	if r.prices, err = loadPrices(c.prices); err != nil {
		return r, err
	}
	if r.budget, err = newBudget(c.budget, r.prices); err != nil {
		return r, err
	}
	if r.budgetStop = c.budgetStop; r.budgetStop && r.budget == nil {
		return r, errors.New("--budget-stop is of no use without --budget")
	}
	if c.rulesFile != "" {
		set, err := readRules(c.rulesFile)
		if err != nil {
			return r, err
		}
		r.alter = &proxy.Alter{Rules: set}
	}
	r.out, err = egress.FromEnv(os.Environ())
	return r, err
}

// hostRoots returns what servers are verified with where no namespace has
// roots of its own: those of the host, and of --upstream-ca.
func (r *rules) hostRoots(log func(format string, args ...any)) *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		log("roots of the host: %v", err)
		pool = x509.NewCertPool()
	}
	return r.withExtra(pool)
}

// withExtra adds the roots of --upstream-ca to a pool.
func (r *rules) withExtra(pool *x509.CertPool) *x509.CertPool {
	for _, c := range r.extra {
		pool.AddCert(c)
	}
	return pool
}
