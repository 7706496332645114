package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

// rawStart is what a connection of plain TCP begins with.
func rawStart(what byte, id int64) []byte {
	return binary.BigEndian.AppendUint64([]byte{1, what}, uint64(id))
}

// raw sends all there is, half-closes, and reads until the other side has
// done the same.
func (c *client) raw(p *plan, s *seen) error {
	conn, err := c.dial(context.Background(), "tcp", rawName+":9")
	if err != nil {
		return err
	}
	defer conn.Close()
	s.Src = conn.LocalAddr().String()
	conn.SetDeadline(time.Now().Add(longest))
	what := byte(rawEcho)
	if p.Kind == kindRawRST {
		what = rawReset
	}
	text := io.MultiReader(bytes.NewReader(rawStart(what, p.ID)), body(p.ID, "up", p.Up+1))
	if what == rawReset {
		text = io.LimitReader(text, rawHead+1) // all of it is read: what resets is the server's will
	}
	if _, err := io.Copy(conn, io.TeeReader(text, &s.Sent)); err != nil {
		return err
	}
	if what == rawEcho {
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
	}
	_, err = io.Copy(&s.Received, conn)
	return err
}

// hoard opens n connections more and holds those that come about. It returns
// what came of them.
func (c *client) hoard(n int) map[string]int {
	outcomes := map[string]int{}
	var mu sync.Mutex
	var wait sync.WaitGroup
	gate := make(chan struct{}, 16)
	for range n {
		gate <- struct{}{}
		wait.Go(func() {
			s := &seen{Kind: kindHoard, Start: time.Now()}
			conn, err := c.hold(s)
			s.Outcome, s.End = outcome(err), time.Now()
			c.note(s)
			mu.Lock()
			if outcomes[s.Outcome]++; conn != nil {
				c.held = append(c.held, conn)
			}
			mu.Unlock()
			<-gate
		})
	}
	wait.Wait()
	return outcomes
}

// hold opens a connection that is answered and then idle.
func (c *client) hold(s *seen) (net.Conn, error) {
	conn, err := c.dial(context.Background(), "tcp", rawName+":9")
	if err != nil {
		return nil, err
	}
	s.Src = conn.LocalAddr().String()
	conn.SetDeadline(time.Now().Add(longest))
	if _, err = conn.Write(rawStart(rawHold, 0)); err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
