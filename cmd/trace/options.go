package main

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// defaultMaxBody is how much of a body is kept unless --max-body says
// otherwise.
const defaultMaxBody = "16M"

// runOptions are the flags of `trace run`, as given.
type runOptions struct {
	captureFlags
	inspect     bool
	proxy       bool
	link        string
	device      string
	session     string
	output      string
	noSave      bool
	jsonl       string
	keylog      string
	pcap        string
	quiet       bool
	attach      string
	noLocalhost bool
	waitAll     bool
	maps        []string
	play        playOptions
	web         string

	argv []string
}

func (o *runOptions) register(cmd *cobra.Command) {
	f := cmd.Flags()
	o.captureFlags.register(f)
	f.BoolVar(&o.inspect, "inspect", false, "capture transparently, in a namespace of the command's own")
	f.BoolVar(&o.proxy, "proxy", false, "capture without a namespace what obeys proxy variables such as HTTPS_PROXY")
	f.StringVar(&o.link, "link", "wireguard", "link between namespace and stack: wireguard or direct")
	f.StringVar(&o.device, "device", "auto", "device in the namespace: auto, tun or veth")
	f.StringArrayVar(&o.maps, "map", nil, "without --inspect and --proxy: carry paths under PREFIX to a server (`PREFIX=URL`); repeatable")
	f.StringVar(&o.session, "session", "", "label of this run (default: the command's base name)")
	f.StringVar(&o.output, "output", "", "write the session to `FILE` instead of the state directory")
	f.BoolVar(&o.noSave, "no-save", false, "keep nothing after the run")
	f.StringVar(&o.jsonl, "jsonl", "", "also write the live event log to `FILE`, one JSON object a line")
	f.StringVar(&o.keylog, "keylog", "", "append the TLS secrets of both legs to `FILE`, as SSLKEYLOGFILE does")
	f.StringVar(&o.pcap, "pcap", "", "also write the packets, and what decrypts them, to `FILE` as pcapng; needs --keep-secrets")
	f.BoolVar(&o.noLocalhost, "no-localhost", false, "keep the localhost of the command and that of the host apart")
	f.BoolVar(&o.waitAll, "wait-all", false, "after the command, wait for the other processes in its namespace")
	f.StringVar(&o.attach, "attach", "", "send the record to the running trace serve (at `SOCKET`)")
	f.Lookup("attach").NoOptDefVal = attachDefault
	o.play.register(cmd)
	f.StringVar(&o.web, "web", "", "serve the live page during the run, on this `ADDR` of loopback (default "+defaultWebAddr+")")
	f.Lookup("web").NoOptDefVal = defaultWebAddr
	f.BoolVar(&o.quiet, "quiet", false, "print nothing of our own")
}

// check reads the values and reports the first that makes no sense.
func (o *runOptions) check() error {
	if !slices.Contains([]string{"wireguard", "direct"}, o.link) {
		return fmt.Errorf("--link %q: want wireguard or direct", o.link)
	}
	if !slices.Contains([]string{"auto", "tun", "veth"}, o.device) {
		return fmt.Errorf("--device %q: want auto, tun or veth", o.device)
	}
	if o.noSave && o.output != "" {
		return fmt.Errorf("--no-save and --output exclude each other")
	}
	if err := o.checkPcap(); err != nil {
		return err
	}
	if err := o.play.check(); err != nil {
		return err
	}
	if err := checkWeb(o.web); err != nil {
		return err
	}
	if o.session == "" {
		o.session = strings.Trim(filepath.Base(o.argv[0]), "/.")
	}
	if strings.ContainsAny(o.session, "/\x00\n") {
		return fmt.Errorf("--session %q: a name without slashes or line breaks", o.session)
	}
	return nil
}

// parseSize reads a size in bytes: a number with an optional K, M or G
// (powers of 1024), with or without a B behind it.
func parseSize(s string) (int64, error) {
	digits, shift := s, 0
	digits = strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(digits), "B"), "I")
	for i, unit := range []string{"K", "M", "G"} {
		if d, ok := strings.CutSuffix(digits, unit); ok {
			digits, shift = d, 10*(i+1)
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("want a size such as 65536, 64K, 16M or 1G")
	}
	return n << shift, nil
}
