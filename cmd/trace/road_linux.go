package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"trace/datagram"
	"trace/dns"
	"trace/doctor"
	"trace/flow"
	"trace/mirror"
	"trace/mitm"
	"trace/netns"
	"trace/pcap"
	"trace/tcpstack"
	"trace/trust"
	"trace/wg"
)

// A road carries the traffic of one command: everything between its packets
// and the record. build puts all of it up, or nothing; the command runs from
// start on; close takes it down.
type road struct {
	rules
	link      string
	device    netns.DeviceKind
	argv      []string
	env       []string
	stdout    *os.File     // nil: ours
	stdin     *os.File     // nil: ours
	isolated  bool         // --no-localhost
	keys      []io.Writer  // get the TLS secrets of both legs; their writes never fail
	childKeys []io.Writer  // get those of the child's leg alone, likewise
	pcap      string       // file of --pcap
	packets   *pcap.Writer // writes it; nil: packets are not written
	record    *recording   // needed by join; ended by whoever made it
	private   string       // empty directory that the child's tmpfs covers, "" for none
	log       func(format string, args ...any)
	step      func(doctor.Step)
	beside    func() // something else to do once the namespace is being built; nil: nothing

	meanwhile func() // starts what nothing waits for before join; after the first time nothing
	ctx       context.Context
	cancel    context.CancelFunc
	ids       atomic.Int64
	ca        *mitm.Authority
	names     *dns.Server
	plan      dns.Plan
	proxy     *mitm.Proxy
	play      *playing        // answers instead of the network; nil: the network does
	relay     *datagram.Relay // of UDP and ICMP
	last      *last           // the end of what the child sends
	running   bool            // the command was started
	captured  string          // what became of packets
	mirror    *mirror.Mirror  // nil: localhost is the namespace's own
	who       *attribution    // nil: processes are not named
	ns        *netns.Namespace
	wg        *wg.Link
	far       *tcpstack.Tunnel
	stack     *tcpstack.Stack
	serve     sync.WaitGroup // sockets of the name server inside the namespace

	// trusted is closed when the trust files are known.
	trusted  chan struct{}
	trustErr error
	files    *trust.Plan
}

// build puts the road up around the command, which does not run yet, but for
// what join connects. What can be done at the same time is: the namespace
// takes longest.
func (r *road) build() (err error) {
	if err := (doctor.Host{}).Processes(); err != nil {
		if r.beside != nil {
			r.beside()
		}
		return err
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.log == nil {
		r.log = func(string, ...any) {}
	}
	r.trusted = make(chan struct{})
	go r.buildTrust()
	r.buildNames()
	linked := make(chan error, 1)
	r.meanwhile = sync.OnceFunc(func() {
		go func() { linked <- r.buildLink() }()
		if r.beside != nil {
			go r.beside()
		}
	})
	err = r.buildNamespace()
	r.meanwhile()
	if lerr := <-linked; err == nil {
		err = lerr
	}
	<-r.trusted
	if err == nil {
		err = r.trustErr
	}
	if err != nil {
		return err
	}
	r.proxy.Authority = r.ca
	return nil
}

// told reports a step to the doctor, if one is listening, and returns err.
func (r *road) told(id string, start time.Time, found string, err error) error {
	if r.step != nil {
		r.step(doctor.Step{ID: id, Took: time.Since(start), Found: found, Err: err})
	}
	return err
}

// buildTrust makes the authority of this run and the files that make the
// child's programs accept it.
func (r *road) buildTrust() {
	defer close(r.trusted)
	start := time.Now()
	ca, err := mitm.NewAuthority(start)
	if err == nil {
		r.ca = ca
		r.files, err = trust.Build(trust.Options{CA: ca.Certificate(), Env: r.env, Dir: r.private})
	}
	if err != nil {
		err = fmt.Errorf("trust: %w", err)
	}
	r.trustErr = r.told("ca", start, "made for this run, held in memory", err)
}

// roots returns the issuers that servers are verified with: those of the
// host, those of the user, and --upstream-ca.
func (r *road) roots() *x509.CertPool {
	pool := r.files.Roots()
	for _, c := range r.extra {
		pool.AddCert(c)
	}
	r.trustPlayed(pool)
	return pool
}

// buildNames prepares the name server and lends addresses to the names of
// --connect-to.
func (r *road) buildNames() {
	r.names = dns.Load("/etc")
	r.names.Record = r.query
	r.names.ByName = func(name string) bool { return r.out.Applies(name, 0) }
	r.out.Name, r.out.Roots = r.names.Name, r.roots
	for _, c := range r.connectTo {
		if _, err := netip.ParseAddr(c.Host); c.Host != "" && err != nil {
			r.names.Lend(c.Host)
		}
	}
	r.playNames()
	r.plan = r.names.Plan()
	r.proxy = &mitm.Proxy{
		Dial:             r.dial(),
		Name:             r.names.Name,
		Record:           func(e flow.Event) { r.record.Append(e) },
		Tap:              func(c *flow.Conn) mitm.Tap { return r.record.tapInto(c, r.alter.Watch(c, r.record.emit)) },
		Alter:            r.alter.Into(func(e flow.Event) { r.record.Append(e) }),
		NextID:           func() int64 { return r.ids.Add(1) },
		ConnectTo:        r.connectTo,
		RootsFunc:        r.roots,
		Only:             r.only,
		Bypass:           r.bypass,
		DecryptUntrusted: r.untrusted,
		KeyLogChild:      allOf(slices.Concat(r.keys, r.childKeys)...),
		KeyLogUpstream:   allOf(r.keys...),
	}
	r.last = newLast()
	r.relay = &datagram.Relay{Name: r.names.Name, Record: r.passed, NextID: r.proxy.NextID}
}

// mtu and offloads of the child's interface, as the links want them: see the
// docs of wg and tcpstack.
func (r *road) interfaceSettings() (mtu int, offload netns.Offload) {
	if r.link == "direct" {
		return 1500, netns.Checksum | netns.TSO
	}
	return wg.MTU, netns.Checksum
}

func (r *road) buildNamespace() error {
	mtu, offload := r.interfaceSettings()
	routes, err := netns.Routes()
	if err != nil {
		r.log("%v: the command gets no IPv6, and an address that may be taken", err)
	}
	a := chooseAddresses(routes)
	c := &netns.Config{
		Path: r.argv[0], Args: r.argv, Stdout: r.stdout, Stdin: r.stdin,
		Device: r.device, MTU: mtu, Offload: offload,
		Addr4: a.v4, Addr6: a.v6, Routes: append([]netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0)}, a.routes6...),
		ListenDNS: r.plan.Listen,
		Step:      r.namespaceStep,
	}
	c.CoversFunc = func() (netns.Covers, error) {
		r.meanwhile()
		<-r.trusted
		if r.trustErr != nil {
			return netns.Covers{}, r.trustErr
		}
		return r.covers(), nil
	}
	ns, err := netns.Start(r.ctx, c)
	if err != nil {
		return err
	}
	ns.SetEnv(r.files.Env)
	r.ns = ns
	r.describe(a)
	for _, n := range ns.Notes() {
		r.log("%v", n)
	}
	return nil
}

// describe tells the doctor what the namespace came to.
func (r *road) describe(a addressing) {
	if r.step == nil {
		return
	}
	found := func(id, format string, args ...any) {
		r.step(doctor.Step{ID: id, Found: fmt.Sprintf(format, args...)})
	}
	d := r.ns.Device()
	if r.ns.Rights() == netns.Root {
		r.step(doctor.Step{ID: "userns", Skip: true, Found: "not needed: root makes namespaces without one"})
	} else {
		found("userns", "uid %d is uid %d inside", os.Getuid(), os.Getuid())
	}
	found("netns", "loopback is up")
	found("mntns", "private")
	found("device", "%s (%s, MTU %d)", d.Kind, d.Name, d.MTU)
	found("offload", "%#x", uint(d.Offload))
	found("route", "%s, default route", a.v4.Addr())
	found("mounts", "%d trees, %d files", len(r.files.Trees), len(r.files.Files))
	if a.v6.IsValid() {
		found("ipv6", "%s", a.v6.Addr())
	} else {
		found("ipv6", "the host has none beyond its own links")
	}
	if len(r.plan.Listen) > 0 {
		found("dns-sockets", "port 53 of %v", r.plan.Listen)
	} else {
		found("dns-sockets", "not needed: no nameserver is on loopback")
	}
	for _, n := range r.ns.Notes() {
		r.step(doctor.Step{ID: n.Step, Err: fmt.Errorf("%s: %w", n.Object, n.Err), Warn: true})
	}
}

func (r *road) namespaceStep(s netns.Step) {
	if r.step != nil {
		r.step(doctor.Step{ID: s.Name, Took: s.Took, Err: s.Err})
	}
}

// covers lists what the child sees instead of the host's files: trust stores,
// the resolver's files where they must differ, and no sockets of resolvers
// that would answer past us.
func (r *road) covers() netns.Covers {
	c := netns.Covers{Dir: r.private, Masks: dns.Sockets("/")}
	for _, t := range r.files.Trees {
		c.Trees = append(c.Trees, netns.Tree{Target: t.Target, From: t.From, Add: t.Add, Required: t.Required})
	}
	for _, f := range r.files.Files {
		c.Files = append(c.Files, netns.File{Target: f.Target, Name: f.Name, Data: f.Data, Required: f.Required})
	}
	if r.plan.Resolv != nil {
		c.Files = append(c.Files, netns.File{Target: "/etc/resolv.conf", Data: r.plan.Resolv})
	}
	if r.plan.Hosts != nil {
		c.Files = append(c.Files, netns.File{Target: "/etc/hosts", Data: r.plan.Hosts})
	}
	return c
}

// buildLink brings the tunnel up while the namespace is being made. The
// direct link has nothing to prepare.
func (r *road) buildLink() error {
	if r.link == "direct" {
		return nil
	}
	start := time.Now()
	far, err := tcpstack.NewTunnel(wg.MTU)
	if err != nil {
		return r.told("link", start, "", fmt.Errorf("link: %w", err))
	}
	r.far = far
	r.wg = &wg.Link{Far: far.Device(), Log: r.log, Down: r.down}
	if err := r.wg.Up(r.ctx); err != nil {
		return r.told("link", start, "", fmt.Errorf("link wireguard: %w", err))
	}
	r.told("link", start, "wireguard, handshake complete", nil)
	return r.buildStack(far)
}

// buildStack makes the connections' end of the link. Its callbacks are called
// once a device is attached.
func (r *road) buildStack(link tcpstack.Link) (err error) {
	r.stack, err = tcpstack.New(tcpstack.Options{Link: link, Accept: r.accept, Datagram: r.datagram,
		Echo: func(e *tcpstack.Echo) bool { return r.relay.TakeEcho(e) }, LinkDown: r.down, Capture: r.capture()})
	if err != nil {
		return fmt.Errorf("stack: %w", err)
	}
	return nil
}

// join connects device, link and stack, and serves the child's names. From
// here on the record is written to.
func (r *road) join() (err error) {
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	r.attribute()
	r.last.open(r.ctx, r.ns)
	var inside sync.WaitGroup // what may need sockets that are still to be made in the namespace
	defer inside.Wait()
	if !r.isolated {
		inside.Go(r.openLocalhost)
	}
	d := r.ns.Device()
	if r.link == "direct" {
		start := time.Now()
		dev, err := tcpstack.NewDevice(tcpstack.DeviceOptions{File: d.File, MTU: d.MTU,
			Ethernet: d.Kind == netns.Veth, PeerMAC: d.ChildMAC[:]})
		if r.told("link", start, "direct", err) != nil {
			return fmt.Errorf("link direct: %w", err)
		}
		if err := r.buildStack(dev); err != nil {
			return err
		}
	}
	if r.wg != nil {
		if err := r.wg.Attach(wg.Device{File: d.File, Ethernet: d.Kind == netns.Veth, PeerMAC: d.ChildMAC[:]}); err != nil {
			return fmt.Errorf("link wireguard: %w", err)
		}
	}
	for _, s := range r.ns.DNS() {
		server := netip.AddrPortFrom(s.Addr, 53)
		r.serve.Go(func() { r.served(r.names.ServeUDP(s.UDP, server)) })
		r.serve.Go(func() { r.served(r.names.ServeTCP(s.TCP, server)) })
	}
	return nil
}

// query records a name query of the child. It never waits for the store.
func (r *road) query(q dns.Query) {
	c := &flow.Conn{Source: flow.SourceNamespace, Process: r.who.asker(q.Src, q.Dst, q.Transport)}
	r.record.Offer(queryEvent(r.ids.Add(1), c, q))
}

func (r *road) served(err error) {
	if err != nil {
		r.log("name server inside the namespace: %v", err)
	}
}

// down is called when the device fails for good: at the end of the namespace,
// or when the child's root took it away.
func (r *road) down(err error) {
	if r.ctx.Err() == nil {
		r.log("link: %v", err)
	}
}

// accept carries one connection of the child.
func (r *road) accept(in *tcpstack.Incoming) {
	if !r.plan.Takes(in.Dst()) {
		r.proxy.Serve(r.ctx, in)
		return
	}
	conn, err := in.Accept()
	if err != nil {
		return
	}
	r.names.ServeConn(conn, in.Src(), in.Dst())
}

// passed records what happens to datagrams. What they hold never waits for
// the store; what opens and closes rows does.
func (r *road) passed(e flow.Event) {
	if e.Kind == flow.Message {
		r.record.Offer(e)
		return
	}
	r.record.Append(e)
}

// datagram answers name queries and carries the rest.
func (r *road) datagram(d *tcpstack.Datagram) bool {
	if !r.plan.Takes(d.Dst()) && (r.play == nil || d.Dst().Port() != 53) {
		return r.last.takes(d) || r.play == nil && r.relay.Take(d)
	}
	d.Go(func() {
		r.who.asks(d.Src(), d.Dst())
		answer, err := r.names.Query(r.ctx, d.Src(), d.Dst(), d.Payload(), false)
		if err == nil && answer != nil {
			d.Reply(answer)
		}
	})
	return true
}

// start lets the command run. A *netns.ExecError says that it cannot.
func (r *road) start() error {
	start := time.Now()
	if pid := r.ns.HelperPID(); pid != 0 && r.step != nil {
		r.step(doctor.Step{ID: "helper", Found: fmt.Sprintf("process %d", pid)})
	}
	err := r.ns.Go()
	r.running = err == nil
	return r.told("exec", start, "", err)
}

// close takes down what stands, in the order in which bytes flow, and waits
// for all of it.
func (r *road) close() {
	if r.running {
		r.settle()
		r.drain()
	}
	mirrorErr := r.closeLocalhost()
	r.cancel()
	r.play.close()
	if r.names != nil {
		r.names.Close()
	}
	r.serve.Wait()
	errs := []error{mirrorErr}
	if r.relay != nil {
		errs = append(errs, r.relay.Close()) // answers through the stack
	}
	if r.stack != nil {
		errs = append(errs, r.stack.Close())
		r.tellLosses(r.stack.Stats())
	}
	if r.wg != nil {
		errs = append(errs, r.wg.Close())
	}
	r.last.close()
	if r.ns != nil {
		errs = append(errs, r.who.close(), r.ns.Close())
	}
	r.closeCapture()
	if err := errors.Join(errs...); err != nil {
		r.log("close: %v", err)
	}
}
