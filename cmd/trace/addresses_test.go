package main

import (
	"net/netip"
	"testing"
)

const routeTable6 = `fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000002 00000000 00000001     eth0
00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo
ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000003 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
`

const defaultRoute6 = `00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0
`

func TestCarriedRoutes6(t *testing.T) {
	got := carriedRoutes6(parseRoutes6(routeTable6))
	if len(got) != 1 || got[0] != netip.MustParsePrefix("fd00::/64") {
		t.Errorf("without a default route: %v", got)
	}
	got = carriedRoutes6(parseRoutes6(routeTable6 + defaultRoute6))
	if len(got) != 1 || got[0] != default6 {
		t.Errorf("with one: %v", got)
	}
	if got := carriedRoutes6(parseRoutes6("nonsense\n\n")); got != nil {
		t.Errorf("of nonsense: %v", got)
	}
}

func TestFreeAddresses(t *testing.T) {
	used := []netip.Prefix{netip.MustParsePrefix("198.19.255.2/32"), netip.MustParsePrefix("10.0.0.1/8")}
	if a := freeAddress4(used); a != netip.MustParseAddr("198.19.255.3") {
		t.Errorf("next to a running trace: %v", a)
	}
	first := freePrefix6(nil)
	second := freePrefix6([]netip.Prefix{first, default6})
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
