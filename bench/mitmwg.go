package main

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// wgServer is where mitmproxy's WireGuard mode, which dials what its client
// wanted, finds the origin (RFC 5737). It is an address of loopback meanwhile:
// 127.0.0.1 would be the client's own.
const wgServer = "198.51.100.1"

// startMitmWireguard puts the client into a network namespace whose default
// route is a tunnel of wireguard-go to mitmdump.
func startMitmWireguard(b *bench, c *contender) (*running, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("only root may move an interface into the client's namespace")
	}
	for _, program := range []string{"wireguard-go", "wg", "ip", "nsenter"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%s is not installed", program)
		}
	}
	conf := filepath.Join(b.dir, "mitmproxy-wireguard")
	server, client, err := wgKeys(conf)
	if err != nil {
		return nil, err
	}
	p, err := freeUDPPort()
	if err != nil {
		return nil, err
	}
	cmd, end, err := b.beside(c, c.need, "-q", "--mode", fmt.Sprintf("wireguard@127.0.0.1:%d", p), "--set", "confdir="+conf,
		"--set", "ssl_verify_upstream_trusted_ca="+b.origin.ca,
		"-w", filepath.Join(b.dir, "mitmproxy-wireguard.flows"))
	if err != nil {
		return nil, err
	}
	ca := filepath.Join(conf, "mitmproxy-ca-cert.pem")
	if err := awaitFile(ca); err != nil {
		end()
		return nil, err
	}
	argv := b.clientArgs("", net.JoinHostPort(wgServer, strconv.Itoa(b.origin.TLSPort)))
	for i := range argv {
		if argv[i] == b.origin.ca {
			argv[i] += "," + ca
		}
	}
	r, err := b.launch(c, argv, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET})
	if r == nil {
		end()
		return nil, err
	}
	r.closes = append(r.closes, end)
	r.engine = func() []int { return []int{cmd.Process.Pid} }
	if err == nil {
		var down func()
		if down, err = b.tunnel(c, r.client.Process.Pid, server, client, p); err == nil {
			r.closes = append(r.closes, down)
		}
	}
	return r.ready(err, b.dir)
}

// tunnel makes an interface in the network namespace of a process, through
// which everything goes to the WireGuard endpoint on a port of loopback.
func (b *bench) tunnel(c *contender, pid int, server, client *ecdh.PrivateKey, port int) (down func(), err error) {
	name := fmt.Sprintf("wgbench%d", os.Getpid()%10000)
	wg := *c
	wg.name += ".tunnel"
	_, down, err = b.beside(&wg, "wireguard-go", "--foreground", name)
	if err != nil {
		return nil, err
	}
	socket := filepath.Join("/var/run/wireguard", name+".sock")
	if err := awaitFile(socket); err != nil {
		down()
		return nil, err
	}
	end := down
	down = func() {
		end()
		exec.Command("ip", "addr", "del", wgServer+"/32", "dev", "lo").Run()
	}
	key := base64.StdEncoding.EncodeToString
	inside := []string{"nsenter", "-n", "-t", strconv.Itoa(pid), "ip"}
	for _, step := range []struct {
		stdin string
		argv  []string
	}{
		{key(client.Bytes()), []string{"wg", "set", name, "private-key", "/dev/stdin", "peer", key(server.PublicKey().Bytes()),
			"endpoint", local(port), "allowed-ips", "0.0.0.0/0"}},
		{"", []string{"ip", "link", "set", name, "netns", strconv.Itoa(pid)}},
		{"", []string{"ip", "addr", "add", wgServer + "/32", "dev", "lo"}},
		{"", append(inside, "addr", "add", "10.0.0.1/32", "dev", name)},
		{"", append(inside, "link", "set", name, "up")},
		{"", append(inside, "route", "add", "default", "dev", name)},
	} {
		cmd := exec.Command(step.argv[0], step.argv[1:]...)
		cmd.Stdin = strings.NewReader(step.stdin)
		if out, err := cmd.CombinedOutput(); err != nil {
			down()
			return nil, fmt.Errorf("%s: %w %s", strings.Join(step.argv, " "), err, out)
		}
	}
	return down, nil
}

// wgKeys makes the keys of both ends and writes them where mitmproxy looks for
// them.
func wgKeys(conf string) (server, client *ecdh.PrivateKey, err error) {
	if server, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		return nil, nil, err
	}
	if client, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
		return nil, nil, err
	}
	key := base64.StdEncoding.EncodeToString
	text, _ := json.Marshal(map[string]string{"server_key": key(server.Bytes()), "client_key": key(client.Bytes())})
	if err := os.MkdirAll(conf, 0o700); err != nil {
		return nil, nil, err
	}
	return server, client, os.WriteFile(filepath.Join(conf, "wireguard.conf"), text, 0o600)
}

// awaitFile waits until there is something at path.
func awaitFile(path string) error {
	return await(func() error {
		_, err := os.Stat(path)
		return err
	})
}

// freeUDPPort returns a port that nobody has just now.
func freeUDPPort() (int, error) {
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.LocalAddr().(*net.UDPAddr).Port, nil
}
