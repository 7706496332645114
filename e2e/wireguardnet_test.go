package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// siteAddr is that of known.corp.example, on the public host.
const siteAddr = "192.0.2.80"

// A wireguardNet is an internet with a serve on its laptop, and containers
// beside the laptop, which reach nothing but that.
type wireguardNet struct {
	*internet
	j          *job
	s          *serving
	entries    func() []entry // what the public host served
	ca         string         // file with the serve's authority
	containers int
}

// newWireguardNet makes the networks and starts the serve.
func newWireguardNet(t *testing.T, w world) *wireguardNet {
	t.Helper()
	need(t, "curl", "wg", "wireguard-go", "ping", "dig")
	n := &wireguardNet{internet: newInternet(t), j: newJob(t, w)}
	n.ip("-n NAMEp addr add " + siteAddr + "/32 dev veth0")
	ca := newAuthority(t, "public")
	n.entries = n.serve(ca.leaf(t, []string{"known.corp.example", "lent.example", publicAddr6}, nil))
	n.resolver()
	resolv := n.j.file("resolv.conf", "nameserver 127.0.0.1\n")
	n.j.within = []string{"ip", "netns", "exec", n.name + "l", "sh", "-c", `mount --bind "$1" /etc/resolv.conf; shift; exec "$@"`, "sh", resolv}
	n.s = n.j.serving("--listen", "none", "--wireguard", ":0", "--keep-secrets", "--connect-to", "lent.example:443:"+siteAddr+":443", "--upstream-ca", n.j.file("public.pem", ca.pem()))
	n.ca = n.j.file("serve.pem", n.j.must(n.j.trace("ca", "export"), 0).stdout)
	return n
}

// ip runs ip(8), NAME standing for this internet.
func (n *wireguardNet) ip(args string) {
	n.t.Helper()
	list := strings.Fields(strings.ReplaceAll(args, "NAME", n.name))
	if out, err := exec.Command("ip", list...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %q: %v: %s", list, err, out)
	}
}

// resolver runs a name server on the laptop's loopback.
func (n *wireguardNet) resolver() {
	var done <-chan struct{}
	err := inNetns("/var/run/netns/"+n.name+"l", func() error {
		done = serveDNS(n.t, n.t.Context(), "127.0.0.1:53")
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { <-done })
}

// A wireguardPeer is a container with a WireGuard client.
type wireguardPeer struct {
	*wireguardNet
	name, ns, iface string
	addr            netip.Addr // inside the tunnel
	conf            string
	resolv          string
	client          *exec.Cmd
	over            sync.Once
}

// container makes a network namespace that reaches the laptop.
func (n *wireguardNet) container() (ns string) {
	n.t.Helper()
	n.containers++
	i := n.containers
	ns = fmt.Sprintf("%sc%d", n.name, i)
	n.t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	n.ip("netns add " + ns)
	n.ip(fmt.Sprintf("link add vc%d netns NAMEl type veth peer name veth0 netns %s", i, ns))
	n.ip(fmt.Sprintf("-n NAMEl addr add 10.201.%d.1/30 dev vc%d", i, i))
	n.ip(fmt.Sprintf("-n NAMEl link set vc%d up", i))
	n.ip("-n " + ns + " link set lo up")
	n.ip(fmt.Sprintf("-n %s addr add 10.201.%d.2/30 dev veth0", ns, i))
	n.ip("-n " + ns + " link set veth0 up")
	n.ip(fmt.Sprintf("-n %s route add %s/32 via 10.201.%d.1", ns, laptopAddr, i))
	return ns
}

// join makes a peer and has it join from a container.
func (n *wireguardNet) join(name string, mtu int) *wireguardPeer {
	n.t.Helper()
	r := n.j.must(n.j.trace("namespace", "wireguard-config", "--peer", name), 0)
	if !strings.Contains(r.stderr, "private key") {
		n.t.Errorf("no warning: %s", r.stderr)
	}
	return n.up(name, n.container(), mtu, r.stdout)
}

// up brings up a WireGuard client of that configuration: the kernel's, or
// where it has none wireguard-go.
func (n *wireguardNet) up(name, ns string, mtu int, conf string) *wireguardPeer {
	n.t.Helper()
	p := &wireguardPeer{wireguardNet: n, name: name, ns: ns, iface: ns + "w", conf: conf}
	var stripped strings.Builder
	for line := range strings.Lines(conf) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		switch key {
		case "Address":
			for _, a := range strings.Split(value, ", ") {
				version := " -6"
				if a := netip.MustParsePrefix(a); a.Addr().Is4() {
					p.addr, version = a.Addr(), ""
				}
				defer n.ip("-n " + ns + version + " route add default dev " + p.iface)
				defer n.ip("-n " + ns + " addr add " + a + " dev " + p.iface)
			}
		case "DNS":
			p.resolv = n.j.file(ns+".resolv.conf", "nameserver "+strings.ReplaceAll(value, ", ", "\nnameserver ")+"\noptions timeout:2\n")
		case "MTU":
		default:
			stripped.WriteString(line)
		}
	}
	p.start()
	p.in("wg", "setconf", p.iface, n.j.file(ns+".conf", stripped.String()))
	n.ip(fmt.Sprintf("-n %s link set %s mtu %d up", ns, p.iface, mtu))
	return p
}

// start makes the interface.
func (p *wireguardPeer) start() {
	p.t.Helper()
	if exec.Command("ip", "-n", p.ns, "link", "add", p.iface, "type", "wireguard").Run() == nil {
		return
	}
	p.client = exec.Command("ip", "netns", "exec", p.ns, "wireguard-go", "-f", p.iface)
	p.client.Env = append(os.Environ(), "LOG_LEVEL=error")
	if err := p.client.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(p.stop)
	socket := filepath.Join("/var/run/wireguard", p.iface+".sock")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("wireguard-go makes no %s", socket)
		}
	}
}

// stop takes the client down.
func (p *wireguardPeer) stop() {
	p.over.Do(func() {
		if p.client == nil {
			exec.Command("ip", "-n", p.ns, "link", "del", p.iface).Run()
			return
		}
		p.client.Process.Signal(os.Interrupt)
		p.client.Wait()
	})
}

// command prepares argv in the container, with the name servers of the
// configuration.
func (p *wireguardPeer) command(argv ...string) []string {
	return append([]string{"ip", "netns", "exec", p.ns, "sh", "-c", `mount --bind "$1" /etc/resolv.conf; shift; exec "$@"`, "sh", p.resolv}, argv...)
}

// in runs argv in the container and wants it to work.
func (p *wireguardPeer) in(argv ...string) result {
	p.t.Helper()
	r := p.j.finish(p.command(argv...))
	if r.code != 0 {
		p.t.Fatalf("%s: %q: exit %d: %s%s\n%s", p.name, argv, r.code, r.stdout, r.stderr, p.s.said())
	}
	return r
}

// curl gets a URL in the container.
func (p *wireguardPeer) curl(args ...string) result {
	p.t.Helper()
	return p.in(append([]string{"curl", "-sS", "--max-time", "60", "--cacert", p.ca}, args...)...)
}

// rows returns what was recorded in the sessions of a name.
func (n *wireguardNet) rows(name string) []row {
	n.t.Helper()
	ids := map[string]bool{}
	for _, s := range n.j.sessions() {
		if s.Name == name {
			ids[s.ID] = true
		}
	}
	var rows []row
	for _, r := range n.j.flows("--all") {
		if ids[r.Session] {
			rows = append(rows, r)
		}
	}
	return rows
}

// A peerStatus is one element of `wg peers --json`.
type peerStatus struct {
	Name, Key, Endpoint, Session string
	Addresses                    []string
	Handshake                    string `json:"latest_handshake"`
	RX, TX                       int64
}

// peers lists the peers.
func (n *wireguardNet) peers() map[string]peerStatus {
	n.t.Helper()
	var list []peerStatus
	r := n.j.must(n.j.trace("wg", "peers", "--json"), 0)
	if err := json.Unmarshal([]byte(r.stdout), &list); err != nil {
		n.t.Fatalf("wg peers --json: %v: %s", err, r.stdout)
	}
	m := map[string]peerStatus{}
	for _, p := range list {
		m[p.Name] = p
	}
	return m
}

// narrow gives the network between a container and the laptop an MTU.
func (p *wireguardPeer) narrow(mtu int) {
	p.t.Helper()
	i := strings.TrimPrefix(p.ns, p.wireguardNet.name+"c")
	p.ip(fmt.Sprintf("-n NAMEl link set vc%s mtu %d", i, mtu))
	p.ip(fmt.Sprintf("-n %s link set veth0 mtu %d", p.ns, mtu))
}
