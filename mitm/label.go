package mitm

import (
	"bytes"
	"encoding/binary"
)

// maxFirst is how many bytes of each side a protocol is named by.
const maxFirst = 512

// labels are the protocols that are carried without being decoded and that
// their first bytes tell with certainty. Those of a side may be cut anywhere.
var labels = []struct {
	name  string
	tells func(client, server []byte) bool
}{
	{"ssh", either("SSH-2.0-", "SSH-1.99-", "SSH-1.5-")},
	{"postgres", isPostgres},
	{"mysql", isMySQL},
	{"redis", isRedis},
	{"mongodb", isMongo},
	{"smtp", isSMTP},
	{"ftp", isFTP},
	{"imap", greets("* OK", "* PREAUTH", "* BYE")},
	{"pop3", isPOP3},
	{"nntp", isNNTP},
	{"amqp", isAMQP},
	{"mqtt", isMQTT},
	{"ldap", isLDAP},
	{"nats", greets("INFO {\"")},
	{"memcached", isMemcached},
	{"kafka", isKafka},
	{"git", isGit},
	{"irc", isIRC},
	{"xmpp", isXMPP},
	{"vnc", greets("RFB 003.", "RFB 004.", "RFB 005.")},
	{"rdp", isRDP},
	{"smb", isSMB},
	{"tds", isTDS},
	{"tns", isTNS},
	{"cql", isCQL},
	{"socks5", isSOCKS5},
	{"socks4", isSOCKS4},
	{"rsync", either("@RSYNCD: ")},
	{"svn", greets("( success ( ")},
	{"rtsp", line(" RTSP/1.0", " RTSP/2.0")},
	{"sip", line(" SIP/2.0")},
	{"stomp", says("CONNECT\naccept-version:", "CONNECT\r\naccept-version:", "STOMP\naccept-version:", "STOMP\r\naccept-version:")},
	{"jdwp", says(handshakeJDWP)},
	{"zookeeper", isZooKeeper},
	{"nsq", says("  V2")},
	{"zmtp", isZMTP},
	{"nbd", greets("NBDMAGIC")},
	{"mpd", greets("OK MPD ")},
	{"managesieve", greets(`"IMPLEMENTATION"`)},
	{"bittorrent", says("\x13BitTorrent protocol")},
	{"telnet", isTelnet},
}

// label names what is spoken by what both sides said first, "" where that
// leaves a doubt.
func label(client, server []byte) string {
	client, server = client[:min(len(client), maxFirst)], server[:min(len(server), maxFirst)]
	for i := range labels {
		if labels[i].tells(client, server) {
			return labels[i].name
		}
	}
	return ""
}

// beginsAny tells whether p begins with one of several words.
func beginsAny(p []byte, words ...string) bool {
	for _, w := range words {
		if len(p) >= len(w) && string(p[:len(w)]) == w {
			return true
		}
	}
	return false
}

// says tells protocols by how a client begins, greets by how a server does.
func says(words ...string) func(client, server []byte) bool {
	return func(client, _ []byte) bool { return beginsAny(client, words...) }
}

func greets(words ...string) func(client, server []byte) bool {
	return func(_, server []byte) bool { return beginsAny(server, words...) }
}

func either(words ...string) func(client, server []byte) bool {
	return func(client, server []byte) bool { return beginsAny(client, words...) || beginsAny(server, words...) }
}

// line tells protocols by how a client's first line ends.
func line(ends ...string) func(client, server []byte) bool {
	return func(client, _ []byte) bool {
		first, _, whole := bytes.Cut(client, []byte("\n"))
		first = bytes.TrimSuffix(first, []byte("\r"))
		for _, e := range ends {
			if whole && bytes.HasSuffix(first, []byte(e)) {
				return true
			}
		}
		return false
	}
}

// word tells whether the first word of p is one of several, without case.
func word(p []byte, words ...string) bool {
	end := bytes.IndexAny(p, " \r\n")
	if end < 0 {
		return false
	}
	for _, w := range words {
		if bytes.EqualFold(p[:end], []byte(w)) {
			return true
		}
	}
	return false
}

// Codes of PostgreSQL's first packets, as they stand in place of a version.
const (
	postgresMajor  = 3
	postgresCancel = 80877102
	postgresTLS    = 80877103
	postgresGSS    = 80877104
)

// isPostgres tells a StartupMessage, or one of the requests that may come
// before it or in its stead.
func isPostgres(client, _ []byte) bool {
	if len(client) < 8 {
		return false
	}
	size, code := binary.BigEndian.Uint32(client), binary.BigEndian.Uint32(client[4:])
	switch code {
	case postgresTLS, postgresGSS:
		return size == 8
	case postgresCancel:
		return size >= 16 && size <= 16+256
	}
	return code>>16 == postgresMajor && size > 8 && size <= 1<<16 && bytes.Contains(client[8:], []byte("user\x00"))
}

// mysqlGreeting returns how long the packet is that a MySQL server greets with, 0 if it is none.
func mysqlGreeting(server []byte) int {
	if len(server) < 6 || server[3] != 0 {
		return 0
	}
	size := int(server[0]) | int(server[1])<<8 | int(server[2])<<16
	switch server[4] {
	case 10: // protocol version; the server's follows as text
		version, _, whole := bytes.Cut(server[5:], []byte{0})
		if whole && size > len(version)+2 && size < maxFirst && len(version) > 0 && version[0] >= '0' && version[0] <= '9' {
			return 4 + size
		}
	case 0xff: // an error, such as of too many connections
		if len(server) < 8 {
			return 0
		}
		code := binary.LittleEndian.Uint16(server[5:])
		if code >= 1000 && code < 5000 && size+4 == len(server) {
			return 4 + size
		}
	}
	return 0
}

func isMySQL(_, server []byte) bool { return mysqlGreeting(server) > 0 }

// isRedis tells an array of bulk strings (RESP), or the answer to an inline
// PING.
func isRedis(client, server []byte) bool {
	if word(client, "PING") && beginsAny(server, "+PONG\r\n") {
		return true
	}
	rest, ok := respCount(client, '*')
	if !ok {
		return false
	}
	_, ok = respCount(rest, '$')
	return ok
}

// respCount cuts a line of a mark and a number off p.
func respCount(p []byte, mark byte) ([]byte, bool) {
	count, rest, whole := bytes.Cut(p, []byte("\r\n"))
	if !whole || len(count) < 2 || len(count) > 10 || count[0] != mark {
		return nil, false
	}
	for _, b := range count[1:] {
		if b < '0' || b > '9' {
			return nil, false
		}
	}
	return rest, true
}

// isMongo tells a message of MongoDB's wire protocol that answers none.
func isMongo(client, _ []byte) bool {
	if len(client) < 16 {
		return false
	}
	size, to, op := binary.LittleEndian.Uint32(client), binary.LittleEndian.Uint32(client[8:]), binary.LittleEndian.Uint32(client[12:])
	return size > 16 && size <= 48<<20 && to == 0 && (op == 2013 || op == 2012 || op == 2004)
}

// ready tells a server that greets with "220 ".
func ready(server []byte) bool { return beginsAny(server, "220 ", "220-") }

func isSMTP(client, server []byte) bool {
	first, _, _ := bytes.Cut(server, []byte("\n"))
	return ready(server) && (bytes.Contains(first, []byte("SMTP")) || bytes.Contains(first, []byte("LMTP")) || word(client, "EHLO", "HELO", "LHLO")) ||
		beginsAny(server, "554 ", "421 ") && word(client, "EHLO", "HELO")
}

func isFTP(client, server []byte) bool {
	first, _, _ := bytes.Cut(server, []byte("\n"))
	return ready(server) && (bytes.Contains(first, []byte("FTP")) || word(client, "USER", "FEAT", "AUTH", "SYST"))
}

func isPOP3(client, server []byte) bool {
	return beginsAny(server, "+OK") && (len(client) == 0 || word(client, "USER", "APOP", "CAPA", "STLS", "AUTH", "QUIT"))
}

func isNNTP(_, server []byte) bool {
	first, _, _ := bytes.Cut(server, []byte("\n"))
	return beginsAny(server, "200 ", "201 ") && (bytes.Contains(first, []byte("NNTP")) || bytes.Contains(first, []byte("NNRP")) || bytes.Contains(first, []byte("InterNetNews")))
}

// isAMQP tells the protocol header of AMQP 0-9-1, or of 1.0 with or without
// TLS or SASL.
func isAMQP(client, _ []byte) bool {
	return len(client) >= 8 && beginsAny(client, "AMQP") && client[4] <= 3
}

// isMQTT tells a CONNECT by the name of the protocol in it.
func isMQTT(client, _ []byte) bool {
	if len(client) == 0 || client[0] != 0x10 {
		return false
	}
	_, n := binary.Uvarint(client[1:])
	return n > 0 && n <= 4 && beginsAny(client[1+n:], "\x00\x04MQTT", "\x00\x06MQIsdp")
}

// Operations that an LDAP client begins with (RFC 4511 section 4).
const (
	ldapBind     = 0x60
	ldapSearch   = 0x63
	ldapExtended = 0x77
)

// isLDAP tells an LDAPMessage: a sequence that begins with a number and a request.
func isLDAP(client, _ []byte) bool {
	if len(client) < 7 || client[0] != 0x30 {
		return false
	}
	at := 2
	if client[1] >= 0x80 {
		at += int(client[1] & 0x7f)
	}
	if at > 6 || len(client) < at+2 || client[at] != 0x02 || client[at+1] == 0 || client[at+1] > 4 {
		return false
	}
	if at += 2 + int(client[at+1]); len(client) <= at {
		return false
	}
	return client[at] == ldapBind || client[at] == ldapSearch || client[at] == ldapExtended
}

// isMemcached tells the binary protocol by its header, and the text by a question
// that fits its answer.
func isMemcached(client, server []byte) bool {
	if len(client) >= 24 && client[0] == 0x80 {
		key, extras, body := int(binary.BigEndian.Uint16(client[2:])), int(client[4]), int(binary.BigEndian.Uint32(client[8:]))
		return client[5] == 0 && key+extras <= body && body < 1<<20+512 && key <= 250 && extras <= 20
	}
	switch {
	case word(client, "get", "gets", "gat", "gats"):
		return beginsAny(server, "VALUE ", "END\r\n")
	case word(client, "set", "add", "replace", "append", "prepend", "cas"):
		return beginsAny(server, "STORED\r\n", "NOT_STORED\r\n", "EXISTS\r\n")
	case word(client, "stats"):
		return beginsAny(server, "STAT ")
	case word(client, "version"):
		return beginsAny(server, "VERSION ")
	case word(client, "mg", "ms", "mn"):
		return beginsAny(server, "HD", "VA ", "EN\r\n", "MN\r\n")
	}
	return false
}

// isKafka tells the ApiVersions request that clients begin with.
func isKafka(client, _ []byte) bool {
	const apiVersions = 18
	if len(client) < 14 {
		return false
	}
	size, key, version := int(binary.BigEndian.Uint32(client)), binary.BigEndian.Uint16(client[4:]), binary.BigEndian.Uint16(client[6:])
	name := int(binary.BigEndian.Uint16(client[12:]))
	return key == apiVersions && version <= 4 && size+4 == len(client) && (name == 0xffff || 14+name <= len(client))
}

// isGit tells the first packet line of git's own protocol.
func isGit(client, _ []byte) bool {
	if len(client) < 4 {
		return false
	}
	for _, b := range client[:4] {
		if (b < '0' || b > '9') && (b < 'a' || b > 'f') {
			return false
		}
	}
	return beginsAny(client[4:], "git-upload-pack ", "git-receive-pack ", "git-upload-archive ")
}

func isIRC(client, server []byte) bool {
	first, _, _ := bytes.Cut(server, []byte("\n"))
	return beginsAny(client, "CAP LS", "CAP REQ", "NICK ") || beginsAny(server, "NOTICE AUTH :", "NOTICE * :") ||
		beginsAny(server, ":") && bytes.Contains(first, []byte(" NOTICE ")) && word(client, "NICK", "USER", "PASS", "CAP")
}

func isXMPP(client, server []byte) bool {
	return beginsAny(client, "<") && bytes.Contains(client, []byte("http://etherx.jabber.org/streams")) ||
		beginsAny(client, "<open ") && bytes.Contains(client, []byte("urn:ietf:params:xml:ns:xmpp-framing"))
}

// isRDP tells a connection request (X.224 in TPKT) with the cookie or the
// negotiation that only RDP has.
func isRDP(client, _ []byte) bool {
	if len(client) < 11 || client[0] != 3 || client[1] != 0 || client[5] != 0xe0 || int(client[4])+5 != int(binary.BigEndian.Uint16(client[2:])) {
		return false
	}
	rest := client[11:]
	return beginsAny(rest, "Cookie: ", "\x01\x00\x08\x00") || len(rest) > 4 && bytes.HasPrefix(rest[1:], []byte("\x00\x08\x00"))
}

func isSMB(client, _ []byte) bool {
	return len(client) >= 8 && client[0] == 0 && (beginsAny(client[4:], "\xffSMB") || beginsAny(client[4:], "\xfeSMB"))
}

// isTDS tells the PRELOGIN of Microsoft's SQL Server: a table of options that begins
// with the version.
func isTDS(client, _ []byte) bool {
	return len(client) >= 13 && client[0] == 0x12 && client[1] == 1 && int(binary.BigEndian.Uint16(client[2:])) <= 4096 &&
		client[8] == 0 && client[9] == 0 && bytes.IndexByte(client[8:], 0xff) > 0
}

// isTNS tells the CONNECT of Oracle.
func isTNS(client, _ []byte) bool {
	return len(client) >= 8 && client[4] == 1 && client[5] == 0 && int(binary.BigEndian.Uint16(client)) >= 8 &&
		bytes.Contains(client, []byte("(CONNECT_DATA="))
}

// isCQL tells the OPTIONS or STARTUP of Cassandra.
func isCQL(client, _ []byte) bool {
	const startup, options = 1, 5
	if len(client) < 9 || client[0] < 3 || client[0] > 5 {
		return false
	}
	size := binary.BigEndian.Uint32(client[5:])
	return client[4] == options && size == 0 || client[4] == startup && size < 1<<10 && bytes.Contains(client, []byte("CQL_VERSION"))
}

// isSOCKS5 tells the list of authentication methods of RFC 1928.
func isSOCKS5(client, server []byte) bool {
	if len(client) < 3 || client[0] != 5 || client[1] == 0 || len(client) != 2+int(client[1]) && len(server) == 0 {
		return false
	}
	return client[2] <= 9 && (len(server) == 0 || server[0] == 5)
}

// isSOCKS4 tells a CONNECT to an address and port, with the name that ends it.
func isSOCKS4(client, _ []byte) bool {
	return len(client) >= 9 && client[0] == 4 && client[1] == 1 && client[len(client)-1] == 0 && (client[2] != 0 || client[3] != 0)
}

// handshakeJDWP is how a debugger greets a Java machine; it is no line.
const handshakeJDWP = "JDWP-Handshake"

// isZooKeeper tells the words of four letters that ask ZooKeeper how it is.
func isZooKeeper(client, _ []byte) bool {
	switch string(client) {
	case "ruok", "stat", "srvr", "mntr", "conf", "cons", "envi", "dump", "isro", "wchs":
		return true
	}
	return false
}

// isZMTP tells the signature of ZeroMQ.
func isZMTP(client, server []byte) bool {
	signed := func(p []byte) bool { return len(p) >= 10 && p[0] == 0xff && p[9] == 0x7f }
	return signed(client) || signed(server)
}

// isTelnet tells a negotiation of options (RFC 855).
func isTelnet(_, server []byte) bool {
	return len(server) >= 3 && server[0] == 0xff && server[1] >= 0xfb && server[1] <= 0xfe
}

// upgrades tells the protocols within which TLS may begin.
func upgrades(name string) bool {
	switch name {
	case "postgres", "mysql", "smtp", "imap", "pop3", "ftp", "nntp", "ldap", "xmpp", "nats", "irc", "managesieve":
		return true
	}
	return false
}
