package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// numberedFiles makes files below dir, numbered within each day from 001 or
// from behind those that are there. It prints the name of each.
type numberedFiles struct {
	dir  string
	w    io.Writer
	last map[string]int
}

// create makes dir/day/NNN_name, which nobody has made before.
func (n *numberedFiles) create(day, name string) (io.WriteCloser, error) {
	dir := filepath.Join(n.dir, day)
	if n.last == nil {
		n.last = map[string]int{}
	}
	if _, met := n.last[day]; !met {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		last, err := lastNumber(dir)
		if err != nil {
			return nil, err
		}
		n.last[day] = last
	}
	for {
		n.last[day]++
		path := filepath.Join(dir, fmt.Sprintf("%03d_%s", n.last[day], name))
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			_, err = fmt.Fprintln(n.w, printable(path))
		}
		return f, err
	}
}

// lastNumber returns the highest number with which the name of a file in dir
// begins, 0 if there is none.
func lastNumber(dir string) (last int, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		number, _, _ := strings.Cut(e.Name(), "_")
		if n, err := strconv.Atoi(number); err == nil {
			last = max(last, n)
		}
	}
	return last, err
}
