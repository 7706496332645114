package pcap

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readerWait bounds how long a pipe waits for its reader: Wireshark takes
	// seconds to start.
	readerWait = 10 * time.Second

	// readerPoll is how often it looks whether one is there. Nothing tells,
	// but an open that cannot be called off.
	readerPoll = 20 * time.Millisecond
)

// open makes a new file that only its owner can read, or opens a pipe for
// writing.
func open(path string) (*os.File, error) {
	st, err := os.Stat(path)
	if err == nil && st.Mode().Type() == fs.ModeNamedPipe {
		return openPipe(path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%w: packets go to a new file or to a pipe", err)
	}
	return f, err
}

// openPipe waits until somebody reads the pipe.
func openPipe(path string) (*os.File, error) {
	tick := time.NewTicker(readerPoll)
	defer tick.Stop()
	for patient := time.Now().Add(readerWait); ; <-tick.C {
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		switch {
		case err == nil:
			if err := checkPipe(f); err != nil {
				f.Close()
				return nil, err
			}
			return f, nil
		case !errors.Is(err, syscall.ENXIO):
			return nil, err
		case time.Now().After(patient):
			return nil, fmt.Errorf("open %s: nobody reads this pipe", path)
		}
	}
}

// checkPipe refuses what is no pipe any more, and a pipe that somebody else
// put there: its reader would get the secrets.
func checkPipe(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.Mode().Type() != fs.ModeNamedPipe {
		return fmt.Errorf("open %s: no pipe any more", f.Name())
	}
	owner, self := st.Sys().(*syscall.Stat_t).Uid, os.Geteuid()
	if int(owner) == self || owner == 0 || self == 0 && strconv.Itoa(int(owner)) == os.Getenv("SUDO_UID") {
		return nil
	}
	return fmt.Errorf("open %s: the pipe belongs to another user (uid %d)", f.Name(), owner)
}
