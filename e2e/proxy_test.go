package e2e

import (
	"crypto/tls"
	"path/filepath"
	"slices"
	"testing"
)

// behind runs a command behind trace's proxy.
func (j *job) behind(flags []string, argv ...string) result {
	j.t.Helper()
	return j.trace(slices.Concat([]string{"run", "--proxy"}, flags, []string{"--"}, argv)...)
}

// proxyClients are the clients that obey the variables, and what others do: SOCKS, and a
// tunnel that is asked for by hand.
func proxyClients() []client {
	const agent = `const http=require("http"),tls=require("tls"),b=new URL(process.argv[1]+"/bytes/70000"),p=new URL(process.env.HTTPS_PROXY);
http.request({host:p.hostname,port:p.port,method:"CONNECT",path:b.hostname+":"+(b.port||443),
headers:{"Proxy-Authorization":"Basic "+Buffer.from(p.username+":"+p.password).toString("base64")}}).on("connect",(r,s)=>{
if(r.statusCode!==200) process.exit(4);
require("https").get(b,{defaultPort:443,createConnection:()=>tls.connect({socket:s,servername:b.hostname})},r=>{let n=0;r.on("data",d=>n+=d.length);r.on("end",()=>{if(n!==70000)process.exit(3)})})}).end()`
	all := slices.DeleteFunc(clients(), func(c client) bool { return c.needs == "node" || c.needs == "openssl" })
	socks := func(scheme string) func(*job, string) []string {
		return func(_ *job, b string) []string {
			return []string{"sh", "-c", `curl -sS --fail -x ` + scheme + `://${ALL_PROXY#http://} -d a=b "$0/echo" -o out`, b}
		}
	}
	return append(all,
		client{"node agent", "node", func(_ *job, b string) []string { return []string{"node", "-e", agent, b} }, []string{"GET /bytes/70000"}},
		client{"curl socks5h", "curl", socks("socks5h"), []string{"POST /echo"}},
		client{"curl any auth", "curl", func(_ *job, b string) []string {
			return []string{"curl", "-sS", "--fail", "--proxy-anyauth", b + "/text", "-o", "out"}
		}, []string{"GET /text"}},
	)
}

// TestProxyClients holds the record of real clients behind the proxy against the
// server's own log, by TLS and in the clear.
func TestProxyClients(t *testing.T) {
	ca := newAuthority(t, "proxy")
	cert := ca.leaf(t, []string{host}, nil)
	for _, w := range both() {
		for _, scheme := range []string{"https", "http"} {
			t.Run(w.String()+"/"+scheme, func(t *testing.T) {
				for _, c := range proxyClients() {
					if scheme == "http" && c.needs == "node" {
						continue
					}
					t.Run(c.name, func(t *testing.T) {
						need(t, c.needs)
						cfg := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
						port := "443"
						if scheme == "http" {
							cfg, port = nil, "80"
						}
						o := serve(t, cfg, nil)
						j := newJob(t, w)
						j.env = []string{"TMPDIR=" + j.home, "GOCLIENT_PROXY=1", "GOCLIENT_H2=1"}
						j.must(j.behind([]string{"--upstream-ca", j.file("root.pem", ca.pem()), "--connect-to", host + ":" + port + ":" + o.addr}, c.argv(j, scheme+"://"+host)...), 0)
						rows := j.flows("--kind", "http")
						checkRecord(t, rows, o, c.want)
						for _, r := range rows {
							if r.Source != "proxy" || r.Conn.Host != host {
								t.Errorf("flow %s: source %s, host %s", r.ID, r.Source, r.Conn.Host)
							}
						}
						if n := len(j.flows()); n != len(rows) {
							t.Errorf("%d rows that are no exchanges", n-len(rows))
						}
						if left, _ := filepath.Glob(filepath.Join(j.home, "trace-*")); len(left) > 0 {
							t.Errorf("left behind: %v", left)
						}
					})
				}
			})
		}
	}
}
