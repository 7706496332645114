package netns

import "testing"

func TestTrueRoot(t *testing.T) {
	for _, kind := range []DeviceKind{TUN, Veth} {
		c := config("sh", "-c", "id; ip a 2>/dev/null; cat /proc/net/route /proc/net/ipv6_route; exit 7")
		c.Device = kind
		c.Step = func(s Step) { t.Log(s) }
		out, st := run(t, c)
		t.Log(out, st)
		if st.Code != 7 {
			t.Errorf("status %v", st)
		}
	}
}

func TestTrueUser(t *testing.T) {
	if asUser(t, true) {
		TestTrueRoot(t)
	}
}
