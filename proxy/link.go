package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What our ends of HTTP/2 take.
const (
	streamWindow = 1 << 20 // bytes of a stream that wait here
	linkWindow   = 8 << 20 // bytes of a connection
	frameSize    = 64 << 10
	tableSize    = 4096 // of HPACK
	mostStreams  = 250
	mostCarried  = 4 * mostStreams // that are carried, of which a child may have broken off many
	mostOrders   = 10_000          // acknowledgements that wait for a peer that reads nothing
)

// A link is one end of a connection of HTTP/2: the server's towards the child, or
// the client's towards a server. Frames are read by run; header sections and data
// are written by whoever carries a stream, all else by clerk, so that reading
// never waits for writing.
type link struct {
	conn   net.Conn
	client bool
	opened func(*stream) bool // takes streams that the other end opens, or does not; it does not wait
	fr     *http2.Framer
	ended  chan struct{} // closed when run and clerk have ended

	wmu  sync.Mutex // guards what is written; taken before mu
	henc *hpack.Encoder
	hbuf bytes.Buffer

	mu      sync.Mutex // guards what follows, and the streams
	room    sync.Cond  // windows grew, streams ended, or SETTINGS came
	work    sync.Cond  // orders came
	streams map[uint32]*stream
	next    uint32 // id of the stream that is opened next
	last    uint32 // id of the last that the other end opened
	window  int64  // bytes that may be sent
	initial int64  // of a stream
	frame   int    // largest payload to send
	most    uint32 // streams at once
	connect bool   // the other end takes extended CONNECT (RFC 8441)
	settled bool   // its first SETTINGS came
	table   uint32 // size of the dynamic table that it takes, as far as we use it
	away    bool   // it takes no new streams
	taken   int64  // bytes that came and may come again, but were not told so
	may     int64  // bytes that it may still send
	orders  []func() error
	err     error // why the connection is over
}

// newLink begins HTTP/2. The preface of a client must have been read.
func newLink(conn net.Conn, client bool, opened func(*stream) bool) *link {
	return newLinkFor(conn, client, true, opened)
}

// newLinkFor is newLink, where an end towards a client takes extended CONNECT (RFC 8441) or
// does not.
func newLinkFor(conn net.Conn, client, connect bool, opened func(*stream) bool) *link {
	l := &link{conn: conn, client: client, opened: opened, fr: http2.NewFramer(conn, bufio.NewReaderSize(conn, frameSize)), ended: make(chan struct{}),
		streams: map[uint32]*stream{}, next: 1, window: 65535, initial: 65535, frame: 16 << 10, most: mostStreams, may: linkWindow}
	l.room.L, l.work.L = &l.mu, &l.mu
	l.henc = hpack.NewEncoder(&l.hbuf)
	l.henc.SetMaxDynamicTableSize(0) // until it is known what the other end takes
	l.fr.ReadMetaHeaders = hpack.NewDecoder(tableSize, nil)
	l.fr.MaxHeaderListSize = maxHead
	l.fr.SetMaxReadFrameSize(frameSize)
	settings := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: streamWindow}, {ID: http2.SettingMaxFrameSize, Val: frameSize},
		{ID: http2.SettingMaxHeaderListSize, Val: maxHead}}
	if client {
		settings = append(settings, http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	} else {
		settings = append(settings, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: mostStreams})
		if connect {
			settings = append(settings, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		}
	}
	if client {
		conn.Write(preface) // run finds out where this fails
	}
	l.fr.WriteSettings(settings...) // it comes before everything else
	l.fr.WriteWindowUpdate(0, linkWindow-65535)
	return l
}

// run reads frames until the connection is over.
func (l *link) run() {
	clerk := make(chan struct{})
	go func() {
		defer close(clerk)
		l.clerk()
	}()
	defer func() {
		l.conn.Close()
		<-clerk
		close(l.ended)
	}()
	for {
		f, err := l.fr.ReadFrame()
		if err == nil {
			err = l.came(f)
		}
		var broken http2.StreamError
		var fault http2.ConnectionError
		switch {
		case err == nil:
		case errors.As(err, &broken):
			l.broke(broken)
		case errors.As(err, &fault):
			l.conn.SetWriteDeadline(time.Now().Add(time.Second))
			l.wmu.Lock()
			l.fr.WriteGoAway(l.last, http2.ErrCode(fault), nil)
			l.wmu.Unlock()
			l.over(err)
			return
		default:
			l.over(err)
			return
		}
	}
}

// over ends the connection and all of its streams.
func (l *link) over(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
	for _, s := range l.streams {
		s.breakOff(&goneError{l.err})
	}
	l.room.Broadcast()
	l.work.Broadcast()
}

// close ends the connection from here, and waits until it has ended.
func (l *link) close() {
	l.over(net.ErrClosed)
	l.conn.Close()
	<-l.ended
}

// ordered has f write something, soon. The lock is held.
func (l *link) ordered(f func() error) {
	if l.err != nil {
		return
	}
	if l.orders = append(l.orders, f); len(l.orders) > mostOrders {
		l.err = errors.New("the other end reads nothing")
		l.conn.Close()
	}
	l.work.Signal()
}

// clerk writes what was ordered.
func (l *link) clerk() {
	for {
		l.mu.Lock()
		for len(l.orders) == 0 && l.err == nil {
			l.work.Wait()
		}
		orders := l.orders
		l.orders = nil
		over := l.err != nil
		l.mu.Unlock()
		if over {
			return
		}
		l.wmu.Lock()
		for _, f := range orders {
			if f() != nil {
				l.conn.Close() // which ends run
				break
			}
		}
		l.wmu.Unlock()
	}
}

// came acts on a frame.
func (l *link) came(f http2.Frame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := f.Header().StreamID
	s := l.streams[id]
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		return l.headersCame(s, f)
	case *http2.DataFrame:
		return l.dataCame(s, f)
	case *http2.SettingsFrame:
		return l.settingsCame(f)
	case *http2.PingFrame:
		if data := f.Data; !f.IsAck() {
			l.ordered(func() error { return l.fr.WritePing(true, data) })
		}
	case *http2.WindowUpdateFrame:
		if s != nil {
			s.window += int64(f.Increment)
		} else if id == 0 {
			l.window += int64(f.Increment)
		}
		l.room.Broadcast()
	case *http2.RSTStreamFrame:
		if s != nil {
			s.breakOff(&resetError{code: f.ErrCode})
			l.forget(s)
		}
	case *http2.GoAwayFrame:
		l.away = true
		for id, s := range l.streams {
			if id > f.LastStreamID && l.client {
				s.breakOff(&resetError{code: http2.ErrCodeRefusedStream})
				l.forget(s)
			}
		}
		l.room.Broadcast()
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

// headersCame acts on a header section. The lock is held.
func (l *link) headersCame(s *stream, f *http2.MetaHeadersFrame) error {
	if s == nil {
		if l.client || f.StreamID <= l.last {
			return nil // of a stream that is over here
		}
		if f.StreamID%2 == 0 {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		l.last = f.StreamID
		if len(l.streams) >= mostStreams {
			return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeRefusedStream}
		}
		if f.Truncated {
			return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeEnhanceYourCalm}
		}
		s = l.add(f.StreamID)
		s.came(item{fields: f.Fields, end: f.StreamEnded()})
		if !l.opened(s) {
			return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeEnhanceYourCalm}
		}
		return nil
	}
	if f.Truncated {
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeEnhanceYourCalm}
	}
	s.came(item{fields: f.Fields, end: f.StreamEnded()})
	return nil
}

// dataCame acts on DATA. The lock is held.
func (l *link) dataCame(s *stream, f *http2.DataFrame) error {
	n := int64(f.Length)
	if l.may -= n; l.may < 0 {
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	if s == nil || s.err != nil || s.over {
		l.credit(n)
		return nil
	}
	if s.may -= n; s.may < 0 {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl}
	}
	data := bytes.Clone(f.Data())
	s.credit(n - int64(len(data))) // padding
	s.came(item{data: data, end: f.StreamEnded()})
	return nil
}

// settingsCame acts on SETTINGS. The lock is held.
func (l *link) settingsCame(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	table := uint32(tableSize)
	if l.settled {
		table = l.table
	}
	err := f.ForeachSetting(func(v http2.Setting) error {
		if err := v.Valid(); err != nil {
			return err
		}
		switch v.ID {
		case http2.SettingInitialWindowSize:
			for _, s := range l.streams {
				s.window += int64(v.Val) - l.initial
			}
			l.initial = int64(v.Val)
		case http2.SettingMaxFrameSize:
			l.frame = int(min(v.Val, frameSize))
		case http2.SettingHeaderTableSize:
			table = min(v.Val, tableSize)
		case http2.SettingMaxConcurrentStreams:
			l.most = v.Val
		case http2.SettingEnableConnectProtocol:
			l.connect = v.Val == 1
		}
		return nil
	})
	l.settled, l.table = true, table
	l.room.Broadcast()
	l.ordered(func() error {
		l.henc.SetMaxDynamicTableSize(table)
		return l.fr.WriteSettingsAck()
	})
	return err
}

// broke ends a stream whose frames make no sense.
func (l *link) broke(e http2.StreamError) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.client {
		l.last = max(l.last, e.StreamID)
	}
	if s := l.streams[e.StreamID]; s != nil {
		s.breakOff(&resetError{code: e.Code})
		l.forget(s)
	}
	l.ordered(func() error { return l.fr.WriteRSTStream(e.StreamID, e.Code) })
}

// credit lets the other end send n bytes more. The lock is held.
func (l *link) credit(n int64) {
	if l.taken += n; l.taken < linkWindow/4 {
		return
	}
	more := uint32(l.taken)
	l.may, l.taken = l.may+l.taken, 0
	l.ordered(func() error { return l.fr.WriteWindowUpdate(0, more) })
}

// add makes a stream. The lock is held.
func (l *link) add(id uint32) *stream {
	s := &stream{l: l, id: id, window: l.initial, may: streamWindow, broken: make(chan struct{})}
	s.arrived.L = &l.mu
	l.streams[id] = s
	return s
}

// forget drops a stream of which nothing is to come. The lock is held.
func (l *link) forget(s *stream) {
	delete(l.streams, s.id)
	l.room.Broadcast()
}

// usable tells whether streams may be opened.
func (l *link) usable() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err == nil && !l.away && l.next < 1<<30
}

// settingsTime is how long a server may take to begin HTTP/2 once it has agreed to it.
const settingsTime = 10 * time.Second

// await waits for the other end's SETTINGS, and tells whether it takes extended
// CONNECT. The connection is over where they do not come.
func (l *link) await(ctx context.Context) (connect bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, settingsTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.over(ctx.Err()) })
	defer stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.settled && l.err == nil {
		l.room.Wait()
	}
	return l.connect, l.err
}

// open opens a stream with a header section. It waits while there are too many.
func (l *link) open(fields []hpack.HeaderField, end bool) (*stream, error) {
	for {
		l.mu.Lock()
		for uint32(len(l.streams)) >= max(l.most, 1) && l.err == nil && !l.away {
			l.room.Wait()
		}
		l.mu.Unlock()
		l.wmu.Lock() // the ids of streams grow in the order in which they are opened
		l.mu.Lock()
		switch {
		case l.err != nil, l.away:
			l.mu.Unlock()
			l.wmu.Unlock()
			return nil, errAway
		case uint32(len(l.streams)) >= max(l.most, 1):
			l.mu.Unlock()
			l.wmu.Unlock()
			continue
		}
		s := l.add(l.next)
		l.next += 2
		l.mu.Unlock()
		err := l.writeHeaders(s, fields, end)
		l.wmu.Unlock()
		return s, err
	}
}

// errAway says that a connection takes no new streams.
var errAway = errors.New("the connection takes no new streams")

// writeHeaders writes a header section. wmu is held.
func (l *link) writeHeaders(s *stream, fields []hpack.HeaderField, end bool) error {
	l.hbuf.Reset()
	for _, f := range fields {
		l.henc.WriteField(f) // never fails
	}
	l.mu.Lock()
	size := l.frame
	l.mu.Unlock()
	rest := l.hbuf.Bytes()
	n := min(len(rest), size)
	err := l.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: rest[:n], EndStream: end, EndHeaders: n == len(rest)})
	for rest = rest[n:]; len(rest) > 0 && err == nil; rest = rest[n:] {
		n = min(len(rest), size)
		err = l.fr.WriteContinuation(s.id, n == len(rest), rest[:n])
	}
	return l.wrote(s, end, err)
}

// wrote notes what was written. wmu is held.
func (l *link) wrote(s *stream, end bool, err error) error {
	if err != nil {
		l.conn.Close()
		return err
	}
	if end {
		l.mu.Lock()
		defer l.mu.Unlock()
		if s.sent = true; s.over {
			l.forget(s)
		}
	}
	return nil
}

// A resetError is the end of a stream by RST_STREAM.
type resetError struct{ code http2.ErrCode }

func (e *resetError) Error() string { return "the stream was reset: " + e.code.String() }

// A goneError is the end of a stream by that of its connection.
type goneError struct{ err error }

func (e *goneError) Error() string {
	if errors.Is(e.err, io.EOF) {
		return "the connection was closed"
	}
	return e.err.Error()
}
func (e *goneError) Unwrap() error { return e.err }
