package main

import (
	"bytes"
	"crypto/md5"
	_ "embed"
	"fmt"
	"strings"
	"time"
)

// What dpkg and rpm run. Both know the profile of AppArmor.
var (
	//go:embed files/profile.sh
	profileScript string
	//go:embed files/postinst.sh
	postinst string
	//go:embed files/prerm.sh
	prerm string
)

const (
	summary     = "see what a program really sends, and to whom"
	description = `trace starts a command in namespaces of its own, takes the packets that come
out, decrypts its TLS with an authority made for this run, relays every byte
unchanged to the real server, and records what it saw: HTTP, server-sent
events, WebSockets, gRPC, and calls to language models as conversations.
It needs no root, no daemon and no proxy variables.`
)

// debPackage is the package for dpkg: an ar archive of three members, deb(5).
func debPackage(o options, src source, t target, files []file) ([]byte, error) {
	files = sorted(append(files, file{docDir + "changelog.gz", 0o644, gzipped([]byte(debChangelog(o, src))), document}))
	data, err := tarball(src.date, "./", files)
	if err != nil {
		return nil, err
	}
	sums, size := "", 0
	for _, f := range files {
		sums += fmt.Sprintf("%x  %s\n", md5.Sum(f.body), f.name)
		size += (len(f.body) + 1023) / 1024
	}
	control, err := tarball(src.date, "./", []file{
		{"control", 0o644, []byte(debControl(o, src, t, size)), plain},
		{"md5sums", 0o644, []byte(sums), plain},
		{"postinst", 0o755, []byte("#!/bin/sh\n" + profileScript + postinst), plain},
		{"prerm", 0o755, []byte("#!/bin/sh\n" + profileScript + prerm), plain},
		// A later AppArmor may understand what an earlier one did not.
		{"triggers", 0o644, []byte("interest-noawait /etc/apparmor.d/abi\n"), plain},
	})
	if err != nil {
		return nil, err
	}
	return ar(src, []file{
		{"debian-binary", 0o100644, []byte("2.0\n"), plain},
		{"control.tar.gz", 0o100644, gzipped(control), plain},
		{"data.tar.gz", 0o100644, gzipped(data), plain},
	}), nil
}

func debControl(o options, src source, t target, size int) string {
	return fmt.Sprintf(`Package: trace
Version: %s
Architecture: %s
Maintainer: %s
Installed-Size: %d
Recommends: ca-certificates
Suggests: apparmor
Section: net
Priority: optional
Description: %s
 %s
`, src.packageVersion(), t.arch, o.maintainer, size, summary, strings.ReplaceAll(description, "\n", "\n "))
}

// debChangelog is what Debian's tools read; people read CHANGELOG.md beside it.
func debChangelog(o options, src source) string {
	return fmt.Sprintf("trace (%s) unstable; urgency=medium\n\n  * What is new is in CHANGELOG.md.\n\n -- %s  %s\n",
		src.packageVersion(), o.maintainer, src.date.Format(time.RFC1123Z))
}

// ar packs members as dpkg wants them: plain names, no table of symbols.
func ar(src source, members []file) []byte {
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, m := range members {
		fmt.Fprintf(&b, "%-16s%-12s%-6d%-6d%-8o%-10d`\n", m.name, src.epoch(), 0, 0, m.mode, len(m.body))
		b.Write(m.body)
		if len(m.body)%2 == 1 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}
