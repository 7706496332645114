package ahead

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// treeCopy is one tree being copied into the tmpfs.
type treeCopy struct {
	m       *mounter
	skip    map[string]bool // names of the top level
	sealed  bool            // the child could not write the original
	entries int
	bytes   int64
}

// tree copies a directory into the tmpfs as name, changes it, and covers its target with it.
func (m *mounter) tree(t *Tree, name string) error {
	target, err := resolve(t.Target)
	if err != nil {
		return err
	}
	from := t.From
	if from == "" {
		from = target
	}
	if err := unix.Mkdirat(m.root, name, 0o755); err != nil {
		return &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	dst, err := unix.Openat(m.root, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(dst)
	c := &treeCopy{m: m, skip: map[string]bool{}, sealed: !writable(target)}
	for _, o := range t.Omit {
		c.skip[o] = true
	}
	for _, f := range t.Added {
		c.skip[f.Name] = true
	}
	for _, l := range t.Link {
		c.skip[l.Name] = true
	}
	src, err := unix.Open(from, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: from, Err: err}
	}
	if err := c.add(dst, t); err != nil {
		unix.Close(src)
		return err
	}
	if err := m.show(c, t, src, dst, name, target); err != nil {
		return err
	}
	m.trees = append(m.trees, target)
	return nil
}

// show covers target with what src, which it closes, and dst hold together.
func (m *mounter) show(c *treeCopy, t *Tree, src, dst int, name, target string) error {
	if len(t.Omit) == 0 {
		if top, err := m.overlay(src, dst, name); err == nil {
			unix.Close(src)
			defer unix.Close(top)
			if err := c.seal(top); err != nil {
				return err
			}
			return m.coverWith(top, name, target)
		}
	}
	from := t.From
	if from == "" {
		from = target
	}
	if err := c.dir(src, dst, from, 0); err != nil {
		return err
	}
	if err := c.seal(dst); err != nil {
		return err
	}
	return m.cover(m.root, name, target)
}

// seal makes a directory read-only once everything is in it, which a later File may still be to come.
func (c *treeCopy) seal(dir int) error {
	if !c.sealed {
		return nil
	}
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("openat", err)
	}
	c.m.seal = append(c.m.seal, fd)
	return nil
}

func (c *treeCopy) add(dst int, t *Tree) error {
	mode := os.FileMode(0o644)
	if c.sealed {
		mode = 0o444
	}
	for _, f := range t.Added {
		if strings.Contains(f.Name, "/") {
			return fmt.Errorf("file name %q: %w", f.Name, unix.EINVAL)
		}
		data, err := c.m.contents(f.Data)
		if err != nil {
			return err
		}
		if err := writeFile(dst, f.Name, data, mode); err != nil {
			return err
		}
	}
	for _, l := range t.Link {
		if err := unix.Symlinkat(l.To, dst, l.Name); err != nil {
			return &os.PathError{Op: "symlink", Path: l.Name, Err: err}
		}
	}
	return nil
}

// dir copies the entries of src, which it closes. What cannot be read is left out with a note: it could not be read before either.
func (c *treeCopy) dir(src, dst int, path string, depth int) error {
	d := os.NewFile(uintptr(src), path)
	defer d.Close()
	list, err := d.ReadDir(-1)
	if err != nil {
		return err
	}
	if c.entries += len(list); c.entries > maxTreeEntries || depth > maxTreeDepth {
		return fmt.Errorf("%s: %w", path, unix.E2BIG)
	}
	link := make([]byte, unix.PathMax)
	for _, e := range list {
		name := e.Name()
		if depth == 0 && c.skip[name] {
			continue
		}
		switch e.Type() {
		case os.ModeSymlink:
			n, err := unix.Readlinkat(src, name, link)
			if err == nil {
				err = unix.Symlinkat(string(link[:n]), dst, name)
			}
			if err != nil {
				return &os.PathError{Op: "symlink", Path: name, Err: err}
			}
		case 0:
			err = c.file(src, dst, name)
		case os.ModeDir:
			err = c.subdir(src, dst, name, path, depth)
		}
		if IsErrno(err, unix.EACCES, unix.EPERM, unix.ENOENT) {
			c.m.note("mounts", join(path, name), err)
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *treeCopy) subdir(src, dst int, name, path string, depth int) error {
	from, err := unix.Openat(src, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(dst, name, 0o755); err != nil {
		unix.Close(from)
		return err
	}
	to, err := unix.Openat(dst, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(from)
		return err
	}
	defer unix.Close(to)
	if err := c.dir(from, to, join(path, name), depth+1); err != nil {
		return err
	}
	return c.seal(to)
}

func (c *treeCopy) file(src, dst int, name string) error {
	from, err := unix.Openat(src, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if c.bytes += st.Size; c.bytes > maxTreeBytes {
		return fmt.Errorf("%s: %w", name, unix.E2BIG)
	}
	mode := st.Mode & 0o777
	if c.sealed {
		mode &^= 0o222
	}
	to, err := unix.Openat(dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	for left := st.Size; left > 0; {
		n, err := unix.Sendfile(to, from, nil, int(left))
		if err != nil || n == 0 {
			return err
		}
		left -= int64(n)
	}
	return nil
}
