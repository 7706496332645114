package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strings"
	"time"
)

// A priceList is what tokens cost, as the user's file says (docs/cli.md). trace
// knows no prices of its own: without a source and a date there are none.
type priceList struct {
	Source   string               `json:"source"`
	Date     string               `json:"date"`
	Currency string               `json:"currency"` // "": USD
	Per      float64              `json:"per"`      // so many tokens; 0: a million
	Models   map[string]tokenCost `json:"models"`   // by glob
}

// A tokenCost is the price of each sort of token; nil: not said.
type tokenCost struct {
	Input      *float64 `json:"input"`
	CacheRead  *float64 `json:"cache_read"`
	CacheWrite *float64 `json:"cache_write"`
	Output     *float64 `json:"output"`
}

// maxPrices bounds the file of prices.
const maxPrices = 4 << 20

// loadPrices reads a file of prices; nil for "".
func loadPrices(file string) (*priceList, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("prices: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPrices+1))
	if err == nil && len(text) > maxPrices {
		err = fmt.Errorf("longer than %d bytes", maxPrices)
	}
	l := &priceList{}
	if err == nil {
		err = l.parse(text)
	}
	if err != nil {
		return nil, fmt.Errorf("prices %s: %w", printable(file), err)
	}
	return l, nil
}

func (l *priceList) parse(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(l); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	switch {
	case strings.TrimSpace(l.Source) == "":
		return errors.New("no source: say where the prices are from")
	case l.Date == "":
		return errors.New("no date: say of which day the prices are, as 2006-01-02")
	case len(l.Models) == 0:
		return errors.New("no models")
	case l.Per < 0:
		return fmt.Errorf("per %v: want a number of tokens", l.Per)
	}
	if _, err := time.Parse(time.DateOnly, l.Date); err != nil {
		return fmt.Errorf("date %q: want a day such as 2006-01-02", l.Date)
	}
	if l.Currency == "" {
		l.Currency = "USD"
	}
	if l.Per == 0 {
		l.Per = 1e6
	}
	for glob, c := range l.Models {
		if _, err := path.Match(glob, ""); err != nil {
			return fmt.Errorf("model %q: %w", glob, err)
		}
		for _, p := range []*float64{c.Input, c.CacheRead, c.CacheWrite, c.Output} {
			if p != nil && (*p < 0 || math.IsInf(*p, 0)) {
				return fmt.Errorf("model %q: a price below zero", glob)
			}
		}
	}
	return nil
}

// find returns what the tokens of a model cost: by the longest pattern that
// fits its name, as it was served or asked for, or PROVIDER/NAME.
func (l *priceList) find(s *callSummary) (tokenCost, bool) {
	best, found := "", false
	for _, name := range []string{s.Served, s.Model} {
		if name == "" {
			continue
		}
		for glob := range l.Models {
			if (!found || len(glob) > len(best)) && (modelFits(glob, name) || modelFits(glob, s.Provider+"/"+name)) {
				best, found = glob, true
			}
		}
		if found {
			break
		}
	}
	return l.Models[best], found
}

// modelFits compares a whole name; * spans slashes too, which some models have.
func modelFits(glob, name string) bool {
	flat := strings.NewReplacer("/", "\x01").Replace
	ok, err := path.Match(flat(glob), flat(name))
	return err == nil && ok
}

// cost returns what the tokens of a call cost; ok is false where a price that
// it takes is missing.
func (l *priceList) cost(s *callSummary) (amount float64, ok bool) {
	c, found := l.find(s)
	if !found || s.Usage == nil {
		return 0, false
	}
	u := s.Usage
	for _, part := range []struct {
		tokens int64
		price  *float64
	}{{u.Input, c.Input}, {u.CacheRead, c.CacheRead}, {u.CacheWrite, c.CacheWrite}, {u.Output, c.Output}} {
		switch {
		case part.tokens == 0:
		case part.price == nil:
			return 0, false
		default:
			amount += float64(part.tokens) * *part.price / l.Per
		}
	}
	return amount, true
}
