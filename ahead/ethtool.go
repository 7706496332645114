package ahead

import (
	"bytes"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// featureNames are ethtool's names of what TUN calls offloads.
var featureNames = map[string]Offload{
	"tx-checksum-ip-generic":       Checksum,
	"tx-tcp-segmentation":          TSO4,
	"tx-tcp6-segmentation":         TSO6,
	"tx-tcp-ecn-segmentation":      ECN,
	"tx-tcp-accecn-segmentation":   ECN,
	"tx-tcp-mangleid-segmentation": TSO4,
	"tx-udp-segmentation":          USO,
}

// notOffered are features of a veth pair for which a virtio header has no words: such packets would be lost.
var notOffered = []string{"tx-gso-list", "tx-sctp-segmentation", "tx-checksum-sctp", "tx-gso-partial", "tx-gre-segmentation",
	"tx-gre-csum-segmentation", "tx-ipxip4-segmentation", "tx-ipxip6-segmentation", "tx-udp_tnl-segmentation",
	"tx-udp_tnl-csum-segmentation", "tx-vlan-hw-insert", "tx-vlan-stag-hw-insert"}

const (
	featureNameLen = 32 // ETH_GSTRING_LEN
	featureSet     = 4  // ETH_SS_FEATURES
)

// setFeatures switches what the device does on its own to want, and returns what it does after that.
func setFeatures(device string, want Offload) (Offload, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	names, err := featureTable(fd, device)
	if err != nil {
		return 0, err
	}
	words := (len(names) + 31) / 32
	// struct ethtool_sfeatures: cmd, size, then {valid, requested} per 32 features.
	req := make([]uint32, 2+2*words)
	req[0], req[1] = unix.ETHTOOL_SFEATURES, uint32(words)
	for i, name := range names {
		bit := uint32(1) << (i % 32)
		if o, ok := featureNames[name]; ok {
			req[2+i/32*2] |= bit
			if want&o != 0 {
				req[3+i/32*2] |= bit
			}
		}
		for _, off := range notOffered {
			if name == off {
				req[2+i/32*2] |= bit
			}
		}
	}
	if err := ethtool(fd, device, unsafe.Pointer(&req[0])); err != nil {
		return 0, os.NewSyscallError("ETHTOOL_SFEATURES", err)
	}
	return activeFeatures(fd, device, names)
}

// activeFeatures reads back what the kernel made of the request; some features it ties together.
func activeFeatures(fd int, device string, names []string) (got Offload, err error) {
	words := (len(names) + 31) / 32
	// struct ethtool_gfeatures: cmd, size, then {available, requested, active, never_changed} per 32 features.
	ans := make([]uint32, 2+4*words)
	ans[0], ans[1] = unix.ETHTOOL_GFEATURES, uint32(words)
	if err := ethtool(fd, device, unsafe.Pointer(&ans[0])); err != nil {
		return 0, os.NewSyscallError("ETHTOOL_GFEATURES", err)
	}
	for i, name := range names {
		if ans[4+i/32*4]>>(i%32)&1 != 0 {
			got |= featureNames[name]
		}
	}
	return got, nil
}

// featureTable lists the names of the kernel's feature bits.
func featureTable(fd int, device string) ([]string, error) {
	// struct ethtool_sset_info: cmd, reserved, mask (64 bits), then a count per set asked for.
	info := [5]uint32{unix.ETHTOOL_GSSET_INFO, 0, 1 << featureSet, 0, 0}
	if err := ethtool(fd, device, unsafe.Pointer(&info[0])); err != nil {
		return nil, os.NewSyscallError("ETHTOOL_GSSET_INFO", err)
	}
	n := min(int(info[4]), 1024)
	// struct ethtool_gstrings: cmd, set, count, then the strings.
	buf := make([]uint32, 3+n*featureNameLen/4)
	buf[0], buf[1], buf[2] = unix.ETHTOOL_GSTRINGS, featureSet, uint32(n)
	if err := ethtool(fd, device, unsafe.Pointer(&buf[0])); err != nil {
		return nil, os.NewSyscallError("ETHTOOL_GSTRINGS", err)
	}
	if n == 0 {
		return nil, unix.EOPNOTSUPP
	}
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&buf[3])), n*featureNameLen)
	names := make([]string, n)
	for i := range names {
		name, _, _ := bytes.Cut(raw[i*featureNameLen:(i+1)*featureNameLen], []byte{0})
		names[i] = string(name)
	}
	return names, nil
}

// ethtoolRequest is struct ifreq with ifr_data.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

func ethtool(fd int, device string, data unsafe.Pointer) error {
	req := ethtoolRequest{data: data}
	copy(req.name[:unix.IFNAMSIZ-1], device)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return errno
	}
	return nil
}
