package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"trace/netns"
)

// routes reads "198.51.100.0/24", and "local 198.51.100.1/32".
func routes(all ...string) (rs []netns.Route) {
	for _, text := range all {
		dst, local := strings.CutPrefix(text, "local ")
		rs = append(rs, netns.Route{Dst: netip.MustParsePrefix(dst), Local: local})
	}
	return rs
}

func TestCarriedRoutes6(t *testing.T) {
	table := []string{"0.0.0.0/0", "fd00::/64", "fe80::/64", "local fd00::2/128", "2001:db8:1::/48"}
	want := []netip.Prefix{netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("2001:db8:1::/48")}
	if got := carriedRoutes6(routes(table...)); !slices.Equal(got, want) {
		t.Errorf("without a default route: %v", got)
	}
	if got := carriedRoutes6(routes(append(table, "::/0")...)); !slices.Equal(got, []netip.Prefix{default6}) {
		t.Errorf("with one: %v", got)
	}
	if a := chooseAddresses(routes("0.0.0.0/0", "fe80::/64")); a.v6.IsValid() || a.routes6 != nil {
		t.Errorf("without IPv6: %+v", a)
	}
}

func TestFreeAddresses(t *testing.T) {
	for _, c := range []struct {
		routes []netns.Route
		want   string
	}{
		{routes("0.0.0.0/0", "local 198.19.255.2/32", "10.0.0.0/8"), "198.19.255.3"}, // next to a running trace
		{routes("198.19.255.0/29"), "198.19.255.8"},
		{routes("198.18.0.0/15", "local 198.19.255.2/32"), "198.19.255.3"}, // all are covered
		{nil, "198.19.255.2"},
	} {
		if a := freeAddress4(c.routes); a != netip.MustParseAddr(c.want) {
			t.Errorf("%v: %v, want %s", c.routes, a, c.want)
		}
	}
	first := freePrefix6(nil)
	second := freePrefix6([]netns.Route{{Dst: first.Masked()}, {Dst: default6}})
	if first == second || !linkNet6.Contains(second.Addr()) || second.Bits() != 64 {
		t.Errorf("%v, then %v", first, second)
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "65536": 65536, "64K": 65536, "64kb": 65536, "16M": 16 << 20, "1GiB": 1 << 30} {
		if n, err := parseSize(s); err != nil || n != want {
			t.Errorf("%q: %d, %v, want %d", s, n, err, want)
		}
	}
	for _, s := range []string{"", "K", "-1", "1.5M", "big", "99999999999G", "B"} {
		if n, err := parseSize(s); err == nil {
			t.Errorf("%q: %d, want an error", s, n)
		}
	}
}
