package main

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rsc.io/qr"

	"trace/peers"
	"trace/wg"
)

func TestPeersForbidden(t *testing.T) {
	r := &peerRoad{
		nets: [2]netip.Prefix{netip.MustParsePrefix("10.7.8.0/22"), netip.MustParsePrefix("fd01::/64")},
		ours: func(a netip.AddrPort) bool { return a == netip.MustParseAddrPort("192.0.2.1:4000") },
	}
	for addr, want := range map[string]bool{
		"127.0.0.1:80": true, "[::1]:80": true, "0.0.0.0:80": true, "[::]:80": true, "169.254.169.254:80": true, "[fe80::1]:80": true,
		"[64:ff9b::127.0.0.1]:80": true, "[64:ff9b::169.254.169.254]:80": true, "[2002:7f00:1::]:80": true, "[64:ff9b::192.0.2.1]:4000": true,
		"10.7.9.2:80": true, "[fd01::2]:80": true, "192.0.2.1:4000": true, "224.0.0.1:80": true, "[ff02::1]:80": true,
		"192.0.2.1:4001": false, "10.7.12.1:80": false, "[2001:db8::1]:80": false, "[64:ff9b::192.0.2.1]:80": false, "198.18.0.1:443": false,
	} {
		if got := r.forbidden(netip.MustParseAddrPort(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

func TestCheckEndpoint(t *testing.T) {
	for s, good := range map[string]bool{
		"": true, "192.0.2.1:51820": true, "[2001:db8::1]:51820": true, "vpn.example.net:1": true,
		"192.0.2.1": false, ":51820": false, "host:0": false, "host:65536": false, "host:http": false, "2001:db8::1:51820": false,
		"a b:1": false, "x\nPostUp = evil:1": false, "x#y:1": false,
	} {
		if err := checkEndpoint(s); (err == nil) != good {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// TestWireguardConfig reads what is printed as wg-quick would.
func TestWireguardConfig(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", "")
	var warned bytes.Buffer
	if _, err := peerConfig(t.Context(), "phone", "", &warned); err == nil || !strings.Contains(err.Error(), "--endpoint") {
		t.Errorf("no serve, no endpoint: %v", err)
	}
	book, err := peerBook()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(book.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a peer was made all the same: %v", err)
	}
	text, err := peerConfig(t.Context(), "phone", "vpn.example.net:51820", &warned)
	if err != nil {
		t.Fatal(err)
	}
	list, err := book.Open()
	if err != nil {
		t.Fatal(err)
	}
	p := list.Peers[0]
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " = "); ok {
			values[k] = v
		}
	}
	key, err := wg.ParseKey(values["PrivateKey"])
	if err != nil || key.Public() != p.PublicKey || values["PublicKey"] != list.Key.Public().String() {
		t.Errorf("keys: %v, %v", values, err)
	}
	own := list.Own()
	if values["DNS"] != own[0].String()+", "+own[1].String() || !own[0].Is4() || values["MTU"] != "1420" ||
		values["AllowedIPs"] != "0.0.0.0/0, ::/0" || values["Endpoint"] != "vpn.example.net:51820" ||
		values["Address"] != p.Addr4.String()+"/32, "+p.Addr6.String()+"/128" {
		t.Errorf("%v", values)
	}
	if !strings.Contains(warned.String(), "private key") || strings.Contains(warned.String(), values["PrivateKey"]) {
		t.Errorf("the warning: %s", warned.String())
	}
	again, err := peerConfig(t.Context(), "phone", "vpn.example.net:51820", io.Discard)
	if err != nil || again != text {
		t.Errorf("the second time it is another: %v\n%s", err, again)
	}
	if err := removePeer(t.Context(), "phone"); err != nil {
		t.Error(err)
	}
	if err := removePeer(t.Context(), "phone"); !errors.Is(err, peers.ErrUnknown) {
		t.Errorf("removed twice: %v", err)
	}
}

// TestQR reads the printed code back, module by module.
func TestQR(t *testing.T) {
	const text = "[Interface]\nPrivateKey = abc\n"
	var out bytes.Buffer
	if err := printQR(&terminal{Writer: &out}, text); err != nil {
		t.Fatal(err)
	}
	want, err := qr.Encode(text, qr.L)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.Trim(out.String(), "\n"), "\n")
	light := map[rune][2]bool{'█': {true, true}, '▀': {true, false}, '▄': {false, true}, ' ': {false, false}}
	for y := range want.Size {
		for x := range want.Size {
			cell := light[[]rune(lines[(y+2)/2])[x+2]]
			if cell[(y+2)%2] == want.Black(x, y) {
				t.Fatalf("module %d,%d is wrong:\n%s", x, y, out.String())
			}
		}
	}
}

// TestHostResolver reads resolv.conf again when it has changed.
func TestHostResolver(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	h := newHostResolver(file)
	if got := h.servers(); len(got) != 0 {
		t.Errorf("no file: %v", got)
	}
	for i, addr := range []string{"192.0.2.1", "192.0.2.2"} {
		if err := os.WriteFile(file, []byte("nameserver "+addr+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(time.Duration(i) * time.Hour)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
		h.checked = time.Time{}
		if got := h.servers(); len(got) != 1 || got[0].String() != addr {
			t.Errorf("%v, want %s", got, addr)
		}
	}
}
