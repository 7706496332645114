package ahead

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Covers is what is mounted over the host's files: see netns.Covers. Contents lie in the raw part of the payload.
type Covers struct {
	Dir   string
	Trees []Tree
	Files []File
	Binds []Bind
	Masks []string
}

// A Tree covers a directory with a changed copy of it.
type Tree struct {
	Target, From string
	Added        []File // Name and Data
	Link         []Link // symbolic links added or replaced
	Omit         []string
	Required     bool
}

// A Link is a symbolic link.
type Link struct{ Name, To string }

// A File covers a file with other contents.
type File struct {
	Target, Name string
	Data         Blob
	Mode         fs.FileMode
	Required     bool
}

// A Bind covers a path with another.
type Bind struct {
	Source, Target string
	Required       bool
}

// Limits of what is copied into the memory of the child's tmpfs.
const (
	maxTreeEntries = 20_000
	maxTreeBytes   = 64 << 20
	maxTreeDepth   = 8
)

// mounter builds the child's view of the file system.
type mounter struct {
	covers Covers
	raw    []byte
	userNS bool
	note   func(step, object string, err error)

	root     int      // of the tmpfs
	borrowed string   // a directory that the tmpfs lies over until all is bound out
	trees    []string // resolved targets that are mounted by now
	seal     []int    // directories that become read-only at the end
}

func (b *builder) mount() error {
	m := &mounter{userNS: b.setup.UserNS, note: b.note, root: -1}
	var err error
	if m.raw, err = receivePayload(b.control, &m.covers); err != nil {
		return err
	}
	// Before anything else: a mount of ours must not appear on the host. In a user namespace this is so already.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make / slave: %w", err)
	}
	if len(m.covers.Trees)+len(m.covers.Files) > 0 {
		if err := m.makeTmpfs(); err != nil {
			return fmt.Errorf("tmpfs: %w", err)
		}
		defer unix.Close(m.root)
	}
	return m.mountAll()
}

func (m *mounter) mountAll() error {
	c := &m.covers
	for i := range c.Trees {
		if err := m.tree(&c.Trees[i], "tree"+strconv.Itoa(i)); m.refuse(c.Trees[i].Target, err, c.Trees[i].Required) {
			return err
		}
	}
	for i := range c.Files {
		if err := m.file(&c.Files[i], strconv.Itoa(i)); m.refuse(c.Files[i].Target, err, c.Files[i].Required) {
			return err
		}
	}
	for _, bind := range c.Binds {
		if err := m.cover(unix.AT_FDCWD, bind.Source, bind.Target); m.refuse(bind.Target, err, bind.Required) {
			return err
		}
	}
	for _, target := range c.Masks {
		err := m.cover(unix.AT_FDCWD, "/dev/null", target)
		if !errors.Is(err, fs.ErrNotExist) {
			m.refuse(target, err, false)
		}
	}
	for _, fd := range m.seal {
		unix.Fchmod(fd, 0o555)
		unix.Close(fd)
	}
	if m.borrowed != "" {
		return os.NewSyscallError("umount "+m.borrowed, unix.Unmount(m.borrowed, unix.MNT_DETACH))
	}
	return nil
}

// Borrowed mounts covers as kernels need it that have not the newer mount calls, and returns the directory that the tmpfs lay over. It
// is for tests, which run on other kernels.
func Borrowed(c Covers, raw []byte) (dir string, err error) {
	m := &mounter{root: -1, raw: raw, covers: c, note: func(_, _ string, e error) { err = errors.Join(err, e) }}
	if e := m.borrow(); e != nil {
		return "", e
	}
	e := m.mountAll()
	return m.borrowed, errors.Join(err, e)
}

// refuse notes err, or says that it must end the construction.
func (m *mounter) refuse(target string, err error, required bool) bool {
	if err != nil && !required {
		m.note("mounts", target, err)
	}
	return err != nil && required
}

const tmpfsFlags = unix.MS_NOSUID | unix.MS_NODEV

// makeTmpfs mounts the tmpfs over its directory, or leaves it without a place: then its parts are bound out of a mount that is
// nowhere in the tree.
func (m *mounter) makeTmpfs() error {
	if dir := m.covers.Dir; dir != "" {
		if err := unix.Mount("trace", dir, "tmpfs", tmpfsFlags, "mode=0755"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
		return m.openRoot(dir)
	}
	err := m.makeDetached()
	if err != nil && m.borrow() == nil {
		err = nil
	}
	return err
}

// borrow is for kernels that lack the newer mount calls, or some of what they do: for the moment any directory serves
// that no path of ours goes through.
func (m *mounter) borrow() error {
	dir := m.unusedDir()
	if dir == "" {
		return unix.ENOENT
	}
	if err := unix.Mount("trace", dir, "tmpfs", tmpfsFlags, "mode=0755"); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	m.borrowed = dir
	return m.openRoot(dir)
}

func (m *mounter) openRoot(dir string) (err error) {
	if m.root, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	return nil
}

// makeDetached makes the tmpfs by fsopen and fsmount. Before Linux 6.15 nothing can be bound out of a mount that is in no
// namespace, so it is tried.
func (m *mounter) makeDetached() error {
	fsfd, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(fsfd)
	unix.FsconfigSetString(fsfd, "source", "trace")
	if err := unix.FsconfigSetString(fsfd, "mode", "0755"); err != nil {
		return os.NewSyscallError("fsconfig", err)
	}
	if err := unix.FsconfigCreate(fsfd); err != nil {
		return os.NewSyscallError("fsconfig", err)
	}
	root, err := unix.Fsmount(fsfd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return os.NewSyscallError("fsmount", err)
	}
	probe, err := unix.OpenTree(root, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		unix.Close(root)
		return os.NewSyscallError("open_tree", err)
	}
	unix.Close(probe)
	m.root = root
	return nil
}

// unusedDir finds a directory that none of the paths to come lies in.
func (m *mounter) unusedDir() string {
	var used []string
	add := func(path string) {
		used = append(used, path)
		if real, err := resolve(path); err == nil {
			used = append(used, real)
		}
	}
	for _, t := range m.covers.Trees {
		add(t.Target)
		add(t.From)
	}
	for _, f := range m.covers.Files {
		add(f.Target)
	}
	for _, b := range m.covers.Binds {
		add(b.Target)
		add(b.Source)
	}
	for _, p := range m.covers.Masks {
		add(p)
	}
next:
	for _, dir := range []string{"/sys", "/mnt", "/media", "/srv", "/opt", "/boot", "/tmp", "/var", "/home"} {
		for _, p := range used {
			if within(dir, p) {
				continue next
			}
		}
		if st, err := os.Lstat(dir); err == nil && st.IsDir() {
			return dir
		}
	}
	return ""
}

func within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

func (m *mounter) contents(b Blob) ([]byte, error) {
	if b.Off < 0 || b.Len < 0 || b.Off > len(m.raw) || b.Len > len(m.raw)-b.Off {
		return nil, unix.EBADMSG
	}
	return m.raw[b.Off : b.Off+b.Len], nil
}

// file writes one file into the tmpfs and covers its target with it.
func (m *mounter) file(f *File, number string) error {
	data, err := m.contents(f.Data)
	if err != nil {
		return err
	}
	mode := f.Mode.Perm()
	if mode == 0 {
		mode = 0o644
	}
	if f.Target != "" && !writable(f.Target) {
		mode &^= 0o222 // the copy belongs to the child, the original does not
	}
	if f.Target != "" && f.Name == "" {
		if real, ok := m.inTree(f.Target); ok {
			unix.Unlink(real)
			if err := writeFile(unix.AT_FDCWD, real, data, mode); err == nil || IsErrno(err, unix.ENOENT) {
				return err
			} // else it lies in a directory of another user's, which an overlay does not change
		}
	}
	name := f.Name
	if name == "" {
		name = "file" + number
	}
	if strings.Contains(name, "/") {
		return fmt.Errorf("file name %q: %w", name, unix.EINVAL)
	}
	if err := writeFile(m.root, name, data, mode); err != nil {
		return err
	}
	if f.Target == "" {
		return nil
	}
	return m.cover(m.root, name, f.Target)
}

func writable(path string) bool { return unix.Access(path, unix.W_OK) == nil }

// inTree says where a target lies that is in a directory of ours already.
func (m *mounter) inTree(target string) (string, bool) {
	parent, name := split(target)
	dir, err := resolve(parent)
	if err != nil {
		return "", false
	}
	real := join(dir, name)
	if r, err := resolve(real); err == nil {
		real = r
	}
	for _, t := range m.trees {
		if within(t, real) && real != t {
			return real, true
		}
	}
	return "", false
}

func writeFile(dir int, name string, data []byte, mode fs.FileMode) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, uint32(mode))
	if err != nil {
		return &os.PathError{Op: "create", Path: name, Err: err}
	}
	defer unix.Close(fd)
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil {
			return &os.PathError{Op: "write", Path: name, Err: err}
		}
		data = data[n:]
	}
	return os.NewSyscallError("fchmod", unix.Fchmod(fd, uint32(mode))) // umask
}

// cover mounts what is at source over what target leads to.
func (m *mounter) cover(dir int, source, target string) error {
	to, err := openTarget(target)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return attach(dir, source, to)
}

// coverWith moves a mount of ours that has no place yet, and is called name, over what target leads to.
func (m *mounter) coverWith(mount int, name, target string) error {
	to, err := openTarget(target)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	return moveMount(mount, name, to)
}

func openTarget(target string) (fd int, err error) {
	if !strings.HasPrefix(target, "/") {
		return -1, fmt.Errorf("target %q: %w", target, unix.EINVAL)
	}
	flags := unix.O_PATH | unix.O_CLOEXEC
	to, err := unix.Open(target, flags, 0)
	if err == unix.ENOENT {
		// A symbolic link that leads nowhere can be covered itself, through a descriptor of it.
		to, err = unix.Open(target, flags|unix.O_NOFOLLOW, 0)
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: target, Err: err}
	}
	return to, nil
}

// attach binds source, with what is mounted in it, over the file or directory that to is open on.
func attach(dir int, source string, to int) error {
	from, err := unix.OpenTree(dir, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err == unix.ENOSYS {
		return bindByPath(dir, source, to)
	}
	if err != nil {
		return &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	defer unix.Close(from)
	return moveMount(from, source, to)
}

func moveMount(from int, name string, to int) error {
	err := unix.MoveMount(from, "", to, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	if err != nil {
		return &os.PathError{Op: "move_mount", Path: name, Err: err}
	}
	return nil
}

// bindByPath is attach for kernels before 5.2.
func bindByPath(dir int, source string, to int) error {
	if dir != unix.AT_FDCWD {
		source = fmt.Sprintf("/proc/thread-self/fd/%d/%s", dir, source)
	}
	err := unix.Mount(source, fmt.Sprintf("/proc/thread-self/fd/%d", to), "", unix.MS_BIND|unix.MS_REC, "")
	if err != nil {
		return &os.PathError{Op: "bind", Path: source, Err: err}
	}
	return nil
}
