package tcpstack

import "golang.org/x/sys/unix"

// errDetached is what a device says that no interface stands behind any more.
const errDetached = unix.EBADFD

// errNoNetwork is what a machine says that is on no network.
const errNoNetwork = unix.ENONET
