package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"rsc.io/qr"

	"trace/control"
	"trace/peers"
	"trace/wg"
)

// keepalive is how often a peer speaks to us when it has nothing to say, in
// seconds: less than the half minute after which some NATs forget.
const keepalive = 25

// controlTime bounds what a command waits for a serve.
const controlTime = 10 * time.Second

func newWireguardConfigCommand() *cobra.Command {
	var name, endpoint string
	var code bool
	cmd := &cobra.Command{
		Use:   "wireguard-config [--peer NAME] [--endpoint HOST:PORT] [--qr]",
		Short: "Print what a WireGuard client needs to come in",
		Long: `Print the configuration of a WireGuard client whose traffic 'trace serve
--wireguard' records. The peer is made if there is none of that name yet, and
may come in at once.

  trace namespace wireguard-config --peer vm > trace.conf   # then: wg-quick up ./trace.conf
  trace namespace wireguard-config --peer phone --qr        # to be scanned with WireGuard's app

The configuration holds the peer's private key.`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := peers.CheckName(name); err != nil {
				return usageError{err}
			}
			if err := checkEndpoint(endpoint); err != nil {
				return usageError{err}
			}
			text, err := peerConfig(cmd.Context(), name, endpoint, cmd.ErrOrStderr())
			if err != nil {
				return exitError{Code: 1, Err: err}
			}
			if _, err := io.WriteString(cmd.OutOrStdout(), text); err != nil || !code {
				return err
			}
			return printQR(newTerminal(cmd.OutOrStdout(), os.Getenv), text)
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "peer", "default", "`NAME` of the peer")
	f.StringVar(&endpoint, "endpoint", "", "`HOST:PORT` where the client reaches the serve (default: that of the one that runs)")
	f.BoolVar(&code, "qr", false, "also print it as a QR code")
	return cmd
}

// checkEndpoint reports what is wrong with --endpoint.
func checkEndpoint(s string) error {
	if s == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 || host == "" || strings.ContainsAny(host, " \t\r\n#[]") {
		return fmt.Errorf("--endpoint %q: want HOST:PORT, such as 192.0.2.1:51820 or [2001:db8::1]:51820", s)
	}
	return nil
}

// peerConfig finds or makes a peer, tells the serve that runs, and writes its
// configuration.
func peerConfig(ctx context.Context, name, endpoint string, warn io.Writer) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, controlTime)
	defer cancel()
	serve, err := control.Dial(ctx, "")
	if err != nil && !errors.Is(err, control.ErrNoServe) {
		return "", err
	}
	if serve != nil {
		defer serve.Close()
	}
	if endpoint == "" {
		if endpoint, err = servedEndpoint(ctx, serve); err != nil {
			return "", err
		}
		if host, _, _ := net.SplitHostPort(endpoint); loopbackHost(host) {
			fmt.Fprintf(warn, "trace: %s is reached from this machine only: trace serve --wireguard :PORT listens for others, --endpoint HOST:PORT names another address\n", endpoint)
		}
	}
	book, err := peerBook()
	if err != nil {
		return "", err
	}
	p, made, err := book.Add(name)
	if err != nil {
		return "", err
	}
	list, err := book.Open()
	if err != nil {
		return "", err
	}
	if err := tellServe(ctx, serve); err != nil {
		return "", fmt.Errorf("peer %q is made, but the serve that runs did not take it: %w", name, err)
	}
	what := "this is"
	if made {
		what = "a new peer; this is"
	}
	fmt.Fprintf(warn, "trace: %s the configuration of peer %s, which holds its private key: whoever has it comes in as %s ('trace wg rm %s' shuts it out)\n", what, name, name, name)
	return configText(list, p, endpoint), nil
}

// tellServe tells the serve that runs, if one does and has peers, that they
// have changed.
func tellServe(ctx context.Context, c *control.Client) error {
	if c == nil {
		return nil
	}
	err := c.PeersChanged(ctx)
	var refused *control.RefusedError
	if errors.As(err, &refused) { // it has no --wireguard
		return nil
	}
	return err
}

// configText writes a configuration as wg-quick(8) and the apps read it. DNS
// has IPv4 first: there are clients that take only one.
func configText(list *peers.List, p peers.Peer, endpoint string) string {
	own := list.Own()
	return fmt.Sprintf(`[Interface]
PrivateKey = %v
Address = %v/32, %v/128
DNS = %v, %v
MTU = %d

[Peer]
PublicKey = %v
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = %s
PersistentKeepalive = %d
`, p.PrivateKey, p.Addr4, p.Addr6, own[0], own[1], wg.PeerMTU, list.Key.Public(), endpoint, keepalive)
}

// servedEndpoint returns where the serve that runs takes peers.
func servedEndpoint(ctx context.Context, c *control.Client) (string, error) {
	if c == nil {
		return "", errors.New("endpoint: no trace serve runs: start 'trace serve --wireguard :51820', or give --endpoint HOST:PORT")
	}
	s, err := c.Status(ctx)
	if err != nil {
		return "", fmt.Errorf("endpoint: %w", err)
	}
	for _, l := range s.Listeners {
		if l.Kind != "wireguard" {
			continue
		}
		if a, err := netip.ParseAddrPort(l.Addr); err == nil {
			return reachable(a)
		}
	}
	return "", fmt.Errorf("endpoint: the trace serve that runs (process %d) has no --wireguard: give it one, or give --endpoint HOST:PORT", s.PID)
}

// reachable returns how others reach a listener. That of all addresses is
// reached at the one by which this host goes out.
func reachable(a netip.AddrPort) (string, error) {
	if !a.Addr().IsUnspecified() {
		return a.String(), nil
	}
	// Nothing is sent: the kernel chooses a source.
	for _, far := range []string{"udp4 192.0.2.1:9", "udp6 [2001:db8::1]:9"} {
		network, addr, _ := strings.Cut(far, " ")
		conn, err := net.Dial(network, addr)
		if err != nil {
			continue
		}
		defer conn.Close()
		if from, err := netip.ParseAddrPort(conn.LocalAddr().String()); err == nil && !from.Addr().IsLoopback() {
			return netip.AddrPortFrom(from.Addr(), a.Port()).String(), nil
		}
	}
	return onlyAddress(a.Port())
}

// onlyAddress returns an address of a host that has no way out.
func onlyAddress(port uint16) (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("endpoint: %w", err)
	}
	for _, one := range addrs {
		if p, err := netip.ParsePrefix(one.String()); err == nil && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
			return netip.AddrPortFrom(p.Addr(), port).String(), nil
		}
	}
	return "", errors.New("endpoint: this host has no address that others could reach: give --endpoint HOST:PORT")
}

// whiteOnBlack makes a QR code right on every terminal that has colours.
const whiteOnBlack style = "40;97"

// printQR prints a text as a QR code, two rows of it in a line.
func printQR(t *terminal, text string) error {
	c, err := qr.Encode(text, qr.L)
	if err != nil {
		return fmt.Errorf("qr code: %w", err)
	}
	const quiet = 2 // modules around it; four are the standard, two do
	dark := func(x, y int) bool { return x >= 0 && y >= 0 && x < c.Size && y < c.Size && c.Black(x, y) }
	var b strings.Builder
	b.WriteByte('\n')
	for y := -quiet; y < c.Size+quiet; y += 2 {
		var line strings.Builder
		for x := -quiet; x < c.Size+quiet; x++ {
			// What is light is printed: most terminals are dark.
			upper, lower := !dark(x, y), !dark(x, y+1) && y+1 < c.Size+quiet
			line.WriteString(map[[2]bool]string{{true, true}: "█", {true, false}: "▀", {false, true}: "▄", {false, false}: " "}[[2]bool{upper, lower}])
		}
		b.WriteString(t.paint(whiteOnBlack, line.String()))
		b.WriteByte('\n')
	}
	_, err = io.WriteString(t, b.String())
	return err
}
