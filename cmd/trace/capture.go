package main

import (
	"errors"
	"fmt"
	"os"
)

// checkPcap reports what makes no sense about --pcap.
func (o *runOptions) checkPcap() error {
	switch {
	case o.pcap == "":
		return nil
	case !o.keepSecrets:
		return errors.New("--pcap writes what passes as it is, secrets too: it needs --keep-secrets")
	case o.pcap == "-", sameFile(o.pcap, os.Stdout), sameFile(o.pcap, os.Stderr):
		return fmt.Errorf("--pcap %s: standard output and error are the command's; name a file or a pipe", o.pcap)
	}
	return nil
}

// sameFile tells whether path names what f has open: /dev/stdout and the
// like.
func sameFile(path string, f *os.File) bool {
	a, err := os.Stat(path)
	if err != nil || a.Mode().IsRegular() { // one that exists is refused anyway
		return false
	}
	b, err := f.Stat()
	return err == nil && os.SameFile(a, b)
}
