package main

import (
	"errors"
	"testing"

	"trace/pcap"
)

func TestCaptureText(t *testing.T) {
	for _, c := range []struct {
		sum  pcap.Summary
		err  error
		want string
	}{
		{pcap.Summary{}, nil, "f: 0 packets"},
		{pcap.Summary{Written: 1}, nil, "f: 1 packet"},
		{pcap.Summary{Written: 7, Dropped: 3}, nil, "f: 7 packets, 3 are missing: it was written too slowly"},
		{pcap.Summary{Written: 7}, errors.New("write f: no space"), "write f: no space: the capture ended after 7 packets"},
		{pcap.Summary{Written: 7, Dropped: 3}, errors.New("write f: no space"), "write f: no space: the capture ended after 7 packets, 3 are missing"},
	} {
		if got := captureText("f", c.sum, c.err); got != c.want {
			t.Errorf("%+v, %v: %q, want %q", c.sum, c.err, got, c.want)
		}
	}
}
