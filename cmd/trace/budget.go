package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"trace/llm"
)

// A budget is what the calls to language models of one session may use, as --budget
// says. Nothing is kept back because of it.
type budget struct {
	tokens int64      // 0: any number
	cost   float64    // 0: any
	prices *priceList // nil: no cost is asked for
}

// newBudget reads --budget; nil without. prices are those that are known, or nil.
func newBudget(values []string, prices *priceList) (*budget, error) {
	b, currency := &budget{}, ""
	for _, v := range values {
		name, amount, _ := strings.Cut(v, "=")
		var err error
		switch {
		case name == "tokens" && b.tokens != 0, name == "cost" && b.cost != 0:
			err = errors.New("it is given twice")
		case name == "tokens":
			b.tokens, err = parseTokens(amount)
		case name == "cost":
			b.cost, currency, err = parseCost(amount)
		default:
			err = errors.New("want tokens=N or cost=N")
		}
		if err != nil {
			return nil, fmt.Errorf("--budget %q: %w", v, err)
		}
	}
	switch {
	case len(values) == 0:
		return nil, nil
	case b.cost == 0:
		return b, nil
	case prices == nil:
		return nil, errors.New("--budget cost: trace knows no prices of its own: --prices FILE")
	case currency != "" && !strings.EqualFold(currency, prices.Currency):
		return nil, fmt.Errorf("--budget cost in %s: the prices are in %s", printable(currency), printable(prices.Currency))
	}
	b.prices = prices
	return b, nil
}

const maxBudget = 1e15 // tokens: so far numbers with a fraction count them exactly

// parseTokens reads a number of tokens, with an optional k (thousand) or M (million).
func parseTokens(s string) (int64, error) {
	digits, unit := s, 1.0
	switch {
	case strings.HasSuffix(s, "k"), strings.HasSuffix(s, "K"):
		digits, unit = s[:len(s)-1], 1e3
	case strings.HasSuffix(s, "M"), strings.HasSuffix(s, "m"):
		digits, unit = s[:len(s)-1], 1e6
	}
	n, err := parseAmount(digits)
	n *= unit
	if err != nil || n > maxBudget || n != math.Trunc(n) {
		return 0, errors.New("want a number of tokens above 0 such as 200000, 200k or 1.5M")
	}
	return int64(n), nil
}

// parseCost reads an amount of money, with or without its currency behind it.
func parseCost(s string) (amount float64, currency string, err error) {
	end := strings.LastIndexFunc(s, func(r rune) bool { return r >= '0' && r <= '9' || r == '.' }) + 1
	currency = strings.TrimSpace(s[end:])
	if amount, err = parseAmount(s[:end]); err != nil {
		return 0, "", errors.New("want an amount above 0 such as 2.50 or 2.50USD")
	}
	return amount, currency, nil
}

// parseAmount reads a decimal number above zero; not what else Go reads as one.
func parseAmount(s string) (float64, error) {
	if strings.Trim(s, "0123456789.") != "" {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseFloat(s, 64)
	if err == nil && n <= 0 {
		err = strconv.ErrRange
	}
	return n, err
}

// A spending is what a session has used of its budget. It is safe for concurrent
// use; that of no budget is nil.
type spending struct {
	*budget
	over    atomic.Pointer[string] // set when the budget is used up
	refused atomic.Int64           // calls that were not sent because of it

	mu       sync.Mutex     // guards what follows
	counted  map[int64]bool // flows
	calls    int
	usage    callUsage
	spent    float64
	untold   int      // calls that told no usage
	unread   int      // calls whose usage could not be read
	unpriced int      // calls without a price
	models   []string // of these, the first few
	cut      bool     // there was no time for the last calls
}

// begin begins to count for a session.
func (b *budget) begin() *spending {
	if b == nil {
		return nil
	}
	return &spending{budget: b, counted: map[int64]bool{}}
}

// exceeded tells whether the budget is used up, and how. It costs next to nothing.
func (s *spending) exceeded() (string, bool) {
	if s == nil {
		return "", false
	}
	if why := s.over.Load(); why != nil {
		return *why, true
	}
	return "", false
}

// count counts a flow that has ended; call is nil if it is none.
func (s *spending) count(id int64, call *callSummary) {
	if s == nil || call == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counted[id] {
		return
	}
	s.counted[id] = true
	for _, c := range callsIn(call) {
		s.add(c)
	}
	if why := s.usedUp(); len(why) > 0 {
		s.over.Store(new(strings.Join(why, "; ")))
	}
}

// maxModels bounds the names of models without a price.
const maxModels = 100

// add counts one call. s.mu is held.
func (s *spending) add(c *callSummary) {
	if c.API == llm.CountTokens { // which costs nothing
		return
	}
	if c.Usage == nil && c.Error != nil { // nor does this
		return
	}
	s.calls++
	if c.Usage == nil {
		s.untold++
		return
	}
	s.usage.add(c.Usage)
	if s.prices == nil {
		return
	}
	amount, ok := s.prices.cost(c)
	s.spent += amount
	if ok {
		return
	}
	s.unpriced++
	name := printable(c.Model)
	if c.Served != "" {
		name = printable(c.Served)
	}
	if len(s.models) < maxModels && name != "" && !slices.Contains(s.models, name) {
		s.models = append(s.models, name)
	}
}

// missed says that a call could not be read.
func (s *spending) missed(id int64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.counted[id] {
		s.counted[id] = true
		s.calls++
		s.unread++
	}
}

// broken says that what ended last was not looked at.
func (s *spending) broken() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
}

// total is the number of all tokens. s.mu is held.
func (s *spending) total() int64 { return s.usage.prompt() + s.usage.Output }

// usedUp names the budgets that are. s.mu is held.
func (s *spending) usedUp() (why []string) {
	if s.tokens > 0 && s.total() >= s.tokens {
		why = append(why, fmt.Sprintf("budget tokens=%d is used up: %s", s.tokens, s.tokenText()))
	}
	if s.cost > 0 && s.spent >= s.cost {
		why = append(why, fmt.Sprintf("budget cost=%g is used up: %s", s.cost, s.costText()))
	}
	return why
}

func (s *spending) tokenText() string {
	return fmt.Sprintf("%s (%d in, %d of them cached, %d out) in %s", count(s.total(), "token"), s.usage.prompt(), s.usage.CacheRead, s.usage.Output, count(int64(s.calls), "call"))
}

func (s *spending) costText() string {
	return fmt.Sprintf("%.4f %s in %s by the prices of %s, %s", s.spent, printable(s.prices.Currency), count(int64(s.calls), "call"), printable(s.prices.Source), s.prices.Date)
}

// report returns what is to be said after the session: of each budget that is used
// up, or of which it is not known.
func (s *spending) report() (lines []string) {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	lines = s.usedUp()
	if n := s.refused.Load(); n > 0 {
		lines = append(lines, fmt.Sprintf("budget: %s answered with 429 instead (--budget-stop)", count(n, "further call")))
	}
	unknown := s.unknown()
	switch {
	case unknown == "":
	case s.over.Load() != nil:
		lines = append(lines, "budget: it is more than that: "+unknown)
	case s.cost > 0 && s.tokens > 0:
		lines = append(lines, fmt.Sprintf("budget: %s, %s, and more: %s", s.tokenText(), s.costText(), unknown))
	case s.cost > 0:
		lines = append(lines, fmt.Sprintf("budget: %s, and more: %s", s.costText(), unknown))
	default:
		lines = append(lines, fmt.Sprintf("budget: %s, and more: %s", s.tokenText(), unknown))
	}
	return lines
}

// unknown says what is missing in the count, "" if nothing is. s.mu is held.
func (s *spending) unknown() string {
	var list []string
	if s.unpriced > 0 {
		text := count(int64(s.unpriced), "call") + " could not be priced"
		if len(s.models) > 0 {
			text += " (" + shortList(s.models) + ")"
		}
		list = append(list, text)
	}
	if s.untold > 0 {
		list = append(list, count(int64(s.untold), "call")+" told no tokens")
	}
	if s.unread > 0 {
		list = append(list, count(int64(s.unread), "call")+" could not be read")
	}
	if s.cut {
		list = append(list, "the last calls were not counted")
	}
	return strings.Join(list, ", ")
}
