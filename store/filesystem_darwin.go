package store

import "golang.org/x/sys/unix"

// network returns the name of the network file system that path lies on, ""
// if it is none: all that is not marked as local (statfs(2)).
func network(path string) string {
	var fs unix.Statfs_t
	if unix.Statfs(path, &fs) != nil || fs.Flags&unix.MNT_LOCAL != 0 {
		return ""
	}
	return "it is on " + unix.ByteSliceToString(fs.Fstypename[:])
}

// inMemory returns how many bytes a file system that lies in memory has room
// for, 0 if dir is on another. A disk of memory looks like any disk.
func inMemory(dir string) uint64 {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil || unix.ByteSliceToString(fs.Fstypename[:]) != "tmpfs" {
		return 0
	}
	return fs.Bavail * uint64(fs.Bsize)
}
