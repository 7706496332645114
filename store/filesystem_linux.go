package store

import "golang.org/x/sys/unix"

// networks are the file systems over which two hosts, and with some of them
// two processes, share no memory (statfs(2)).
var networks = map[int64]string{
	unix.NFS_SUPER_MAGIC:  "nfs",
	unix.SMB_SUPER_MAGIC:  "smb",
	unix.CIFS_SUPER_MAGIC: "cifs",
	unix.SMB2_SUPER_MAGIC: "smb2",
	unix.AFS_SUPER_MAGIC:  "afs",
	unix.CEPH_SUPER_MAGIC: "ceph",
	unix.CODA_SUPER_MAGIC: "coda",
	unix.V9FS_MAGIC:       "9p",
}

// statfs is unix.Statfs; tests replace it.
var statfs = unix.Statfs

// network returns the name of the network file system that path lies on, ""
// if it is none.
func network(path string) string {
	var fs unix.Statfs_t
	if statfs(path, &fs) != nil {
		return ""
	}
	if name := networks[int64(fs.Type)&0xffffffff]; name != "" {
		return "it is on " + name
	}
	return ""
}

// inMemory returns how many bytes a file system that lies in memory has room
// for, 0 if dir is on another.
func inMemory(dir string) uint64 {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil || fs.Type != unix.TMPFS_MAGIC {
		return 0
	}
	return fs.Bavail * uint64(fs.Bsize)
}
