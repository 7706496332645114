package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// What systemd says to a service, and hears from it: sd_listen_fds(3),
// sd_notify(3), sd_watchdog_enabled(3).

// firstSocket is the descriptor of the first socket that was handed over.
const firstSocket = 3

// An activation is the sockets that this program was started with, by the kind
// of listener that they are for.
type activation struct {
	stream map[string]net.Listener
	packet map[string]*net.UDPConn
}

// activated takes the sockets that were handed over. FileDescriptorName= of the
// socket unit is the kind of listener: reverse, proxy, wireguard or web. Without a
// name a stream socket is for the reverse proxy, a datagram socket for WireGuard.
func activated() (activation, error) {
	a := activation{map[string]net.Listener{}, map[string]*net.UDPConn{}}
	pid, n := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for _, v := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(v)
	}
	if pid != strconv.Itoa(os.Getpid()) {
		return a, nil
	}
	count, err := strconv.Atoi(n)
	if err != nil || count < 0 {
		return a, fmt.Errorf("socket activation: LISTEN_FDS=%q: want a number", n)
	}
	for i := range count {
		name := ""
		if i < len(names) {
			name = names[i]
		}
		if err := a.take(i+firstSocket, name); err != nil {
			return a, fmt.Errorf("socket activation: descriptor %d: %w", i+firstSocket, err)
		}
	}
	return a, nil
}

// take takes one socket.
func (a *activation) take(fd int, name string) error {
	f := os.NewFile(uintptr(fd), name)
	defer f.Close() // it is duplicated
	if l, err := net.FileListener(f); err == nil {
		kind := name
		if name != "reverse" && name != "proxy" && name != "web" {
			kind = "reverse"
		}
		if a.stream[kind] != nil {
			l.Close()
			return fmt.Errorf("a second socket for %s: FileDescriptorName= says which listener a socket is for (reverse, proxy, web)", kind)
		}
		a.stream[kind] = l
		return nil
	}
	c, err := net.FilePacketConn(f)
	if err != nil {
		return fmt.Errorf("%q is neither a listening socket nor one of datagrams: %w", name, err)
	}
	u, ok := c.(*net.UDPConn)
	if !ok || a.packet["wireguard"] != nil {
		c.Close()
		return fmt.Errorf("%q: want one UDP socket, for WireGuard", name)
	}
	a.packet["wireguard"] = u
	return nil
}

// has tells whether there is a socket for a kind of listener.
func (a *activation) has(kind string) bool { return a.stream[kind] != nil || a.packet[kind] != nil }

// listener returns the socket for a kind of listener; nil if there is none.
func (a *activation) listener(kind string) net.Listener {
	l := a.stream[kind]
	delete(a.stream, kind)
	return l
}

// closeRest closes the sockets that nobody wanted.
func (a *activation) closeRest(log func(format string, args ...any)) {
	for kind, l := range a.stream {
		log("socket activation: nothing serves the socket for %s, %s", kind, l.Addr())
		l.Close()
	}
	for kind, c := range a.packet {
		log("socket activation: nothing serves the socket for %s, %s", kind, c.LocalAddr())
		c.Close()
	}
}

// notifyService tells the manager of services about this one.
func notifyService(log func(format string, args ...any), state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // a leading @ is an abstract name there too
	if err == nil {
		_, err = c.Write([]byte(state))
		c.Close()
	}
	if err != nil {
		log("notify %s of %s: %v", path, state, err)
	}
}

// watchService returns a ticker for telling the manager of services that this one
// is alive, which never ticks where that is not wanted.
func watchService() *time.Ticker {
	us, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	pid := os.Getenv("WATCHDOG_PID")
	if err != nil || us <= 0 || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		t := time.NewTicker(time.Hour)
		t.Stop()
		return t
	}
	return time.NewTicker(time.Duration(us) * time.Microsecond / 2)
}
