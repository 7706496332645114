package replay

import (
	"strings"
	"testing"
	"testing/quick"
)

func TestSteady(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""}, {"plain words, and_more-of them", "plain words, and_more-of them"},
		{"id 0190c1d2-aaaa-7bbb-8ccc-0123456789ab.", "id <uuid>."}, {"0190C1D2-aaaa-7bbb-8ccc-0123456789ab", "<uuid>"}, {"x0190c1d2-aaaa-7bbb-8ccc-0123456789ab", "x0190c1d2-aaaa-7bbb-8ccc-0123456789ab"},
		{"0190c1d2-aaaa-7bbb-8ccc-0123456789abc", "0190c1d2-aaaa-7bbb-8ccc-0123456789abc"},
		{"msg_01AbCdEf toolu_01-x_y9 call_short my_msg_01AbCdEf", "<id> <id> call_short my_msg_01AbCdEf"}, {"chatcmpl-9x8y7z", "<id>"}, {"msg-01AbCdEf", "msg-01AbCdEf"}, {"call_a", "call_a"},
		{"on 2026-01-02 at", "on <time> at"}, {"on 2026-01-02T03:04:05.678Z at", "on <time> at"}, {"on 2026-01-02 03:04 UTC at", "on <time> at"}, {"2026-01-02T03:04:05+01:00", "<time>"},
		{"2026-01-02", "<time>"}, {"gpt-4o-2024-08-06", "gpt-4o-2024-08-06"}, {"use gpt-4o-2024-08-06 now", "use gpt-4o-2024-08-06 now"}, {"a/2026-01-02/b", "a/2026-01-02/b"},
		{"at 03:04:05,123 it", "at <time> it"}, {"port 12:30 x", "port 12:30 x"}, {"2026-01-02x is", "2026-01-02x is"}, {"a 2026-01-02-3 b", "a 2026-01-02-3 b"},
		{"1767323045", "<epoch>"}, {"1767323045123", "<epoch>"}, {"17673230451", "17673230451"}, {"1067323045", "1067323045"}, {"x1767323045", "x1767323045"},
		{strings.Repeat("0a", 16), "<hash>"}, {strings.Repeat("0a", 32), "<hash>"}, {strings.Repeat("0a", 33), strings.Repeat("0a", 33)}, {strings.Repeat("0A", 16), strings.Repeat("0A", 16)},
		{"in /tmp/x.1-y/z and /tmp/", "in <temp>/z and /tmp/"}, {"ü 2026-01-02 ü", "ü <time> ü"},
	} {
		if got := steady(c.in); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
	for s, want := range map[string]bool{"2023-06-01": false, "msg_01AbCdEf": true, "a b 03:04:05": false, "x": false} {
		if hasID(s) != want {
			t.Errorf("hasID(%q) is %v", s, !want)
		}
	}
	// What is steady stays so, and nothing outside of words changes.
	if err := quick.Check(func(s string, n uint8) bool {
		s += "2026-01-02 msg_" + strings.Repeat("a", int(n)) + s
		out := steady(s)
		return steady(out) == out
	}, nil); err != nil {
		t.Error(err)
	}
}
