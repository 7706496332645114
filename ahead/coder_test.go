package ahead

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// messages are one of each kind, with something in every field.
func messages() []Message {
	p4 := Prefix{[]byte{198, 19, 255, 2}, 32, "198.19.255.2/32"}
	p6 := Prefix{make([]byte, 16), 64, "::/64"}
	fault := Fault{"no such thing", unix.ENOENT}
	return []Message{
		&Setup{true, Veth, 65456, Checksum | TSO, 1 << 16, p4, p6, []Prefix{p6, p4}, [][2]string{{"net/x", "1 2"}}, []Prefix{p4}},
		&Command{[]byte("sh"), [][]byte{[]byte("sh"), []byte("\xff\n")}, [][]byte{[]byte("A=b")}, []byte("/tmp"), 1 << 63},
		&Entry{true, []byte("/tmp"), 1 << 63, 7},
		&Report{"lo", 5, &fault, []Note{{"ipv6", "::1", fault}}, 77, &Ready{Device{Kind: TUN, Name: "trace0", MTU: 9, Offload: 1,
			ChildMAC: [6]byte{1, 2, 3, 4, 5, 6}, MAC: [6]byte{6}}, []int{0, 2}, 2, 1, 4026531840, 1 << 40}},
		&Request{9, OpDial, true, []byte{127, 0, 0, 1}, 65535},
		&Reply{9, &fault},
		&Covers{"/d", []Tree{{"/t", "/f", []File{{"", "n", Blob{}, 0, false}}, []Link{{"a", "b"}}, []string{"o"}, true}},
			[]File{{"/x", "", Blob{3, 4}, 0o644, true}}, []Bind{{"/s", "/t", true}}, []string{"/m"}},
	}
}

func TestMessages(t *testing.T) {
	for _, m := range messages() {
		p := Encode(m)
		got := reflect.New(reflect.TypeOf(m).Elem()).Interface().(Message)
		if err := decode(p, got); err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%+v came back as %+v, %v", m, got, err)
		}
		for n := range p { // whatever is cut off
			got := reflect.New(reflect.TypeOf(m).Elem()).Interface().(Message)
			if err := decode(p[:n], got); !errors.Is(err, unix.EBADMSG) {
				t.Errorf("%T, %d of %d bytes: %v", m, n, len(p), err)
			}
		}
		if err := decode(append(p, 0), got); !errors.Is(err, unix.EBADMSG) {
			t.Errorf("%T and a byte: %v", m, err)
		}
	}
}

// FuzzDecode: no bytes make it panic, or take memory that they do not account for.
func FuzzDecode(f *testing.F) {
	for _, m := range messages() {
		f.Add(Encode(m))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, m := range []Message{&Setup{}, &Command{}, &Entry{}, &Report{}, &Request{}, &Reply{}, &Covers{}} {
			if decode(p, m) == nil && len(Encode(m)) != len(p) {
				t.Errorf("%T: %d bytes became %d", m, len(p), len(Encode(m)))
			}
		}
	})
}

func TestIsRun(t *testing.T) {
	for line, want := range map[string]bool{
		"trace": false, "trace run --inspect -- true": true, "trace run --quiet --inspect=true true": true,
		"trace run -- true --inspect": false, "trace run true": false, "trace flows list --inspect": false,
	} {
		if got := isRun(strings.Fields(line)); got != want {
			t.Errorf("%s: %v", line, got)
		}
	}
}

// TestNotes: however long they are, notes go with the message that they belong to.
func TestNotes(t *testing.T) {
	b := &builder{}
	for range 2 * maxNotes {
		b.note("mounts", "/"+strings.Repeat("long", unix.PathMax/4), unix.EACCES)
	}
	if n := len(Encode(&Report{Step: "ready", Notes: b.notes, Ready: &b.ready})); len(b.notes) == 0 || n > MaxMessage {
		t.Errorf("%d notes make %d bytes", len(b.notes), n)
	}
}
