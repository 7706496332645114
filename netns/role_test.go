package netns

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// roles are the programs that tests need and machines lack.
var roles = map[string]func(arg string) int{
	"user":      becomeUser,
	"container": becomeContainerRoot,
	"fds":       listDescriptors,
	"udp":       askUDP,
	"serve":     serveOnce,
	"carrier":   carry,
	"ignored":   printIgnored,
	"session":   leadSession,
	"borrow":    borrowCovers,
	"trim":      trimTwice,
}

// becomeUser turns root into testUser and runs the same tests again.
func becomeUser(arg string) int {
	os.Unsetenv(roleVar)
	mode := os.FileMode(0o600)
	if arg == "tun" {
		mode = 0o666
	}
	if err := makeTUNNode(mode); err != nil && arg == "tun" { // within a user namespace of a test there is none to be made
		fmt.Println("tun node:", err)
		return 1
	}
	return runTestsAs(&syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testUser, Gid: testUser}})
}

// becomeContainerRoot gives up CAP_SYS_ADMIN for good and runs the same tests again.
func becomeContainerRoot(string) int {
	os.Unsetenv(roleVar)
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0); err != nil {
		fmt.Println(err)
		return 1
	}
	return runTestsAs(nil)
}

func runTestsAs(sys *syscall.SysProcAttr) int {
	// A copy that the user may execute: the test binary's directory may be closed to it.
	exe, err := copyExecutable()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	pid, err := syscall.ForkExec(exe, os.Args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: sys})
	if err != nil {
		fmt.Println("become:", err)
		return 1
	}
	var ws syscall.WaitStatus
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); err != syscall.EINTR {
			break
		}
	}
	os.Remove(exe)
	return ws.ExitStatus()
}

func copyExecutable() (string, error) {
	p, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp("/tmp", "netns.test")
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := f.Write(p); err != nil {
		return "", err
	}
	return f.Name(), f.Chmod(0o755)
}

// makeTUNNode puts a node of this mode where the usual one is, in this mount namespace only.
func makeTUNNode(mode os.FileMode) error {
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/dev/net", "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	if err := unix.Mknod("/dev/net/tun", unix.S_IFCHR|0o600, int(unix.Mkdev(10, 200))); err != nil {
		return err
	}
	return os.Chmod("/dev/net/tun", mode)
}
