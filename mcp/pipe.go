package mcp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"
)

// maxAsked is how many questions wait on a pipe: what comes then is read when one of
// them is answered.
const maxAsked = 64

// A pipe carries JSON-RPC messages, one a line. What is no message is answered with
// an error, and the next line is read.
type pipe struct {
	in   io.ReadCloser
	out  io.Writer
	room chan struct{}

	reading chan line
	closed  chan struct{}
	once    sync.Once

	mu   sync.Mutex // guards what follows
	eof  bool
	wait map[jsonrpc.ID]bool // questions that were not answered yet
}

// A line is one message as it came, or why there is none.
type line struct {
	text []byte
	long bool
	err  error
}

func newPipe(in io.ReadCloser, out io.Writer) *pipe {
	return &pipe{in: in, out: out, room: make(chan struct{}, maxAsked), reading: make(chan line), closed: make(chan struct{}), wait: map[jsonrpc.ID]bool{}}
}

// Connect begins to read.
func (p *pipe) Connect(context.Context) (sdk.Connection, error) {
	go p.read()
	return p, nil
}

// SessionID is "": a pipe has one client.
func (p *pipe) SessionID() string { return "" }

// read reads lines until the pipe ends. It is not waited for: nothing unblocks
// the reading of standard input.
func (p *pipe) read() {
	r := bufio.NewReaderSize(p.in, 64<<10)
	for {
		l := nextLine(r)
		select {
		case p.reading <- l:
		case <-p.closed:
			return
		}
		if l.err != nil {
			return
		}
	}
}

// nextLine reads a line. Of one that is too long nothing is kept.
func nextLine(r *bufio.Reader) (l line) {
	for {
		part, err := r.ReadSlice('\n')
		if l.long = l.long || len(l.text)+len(part) > maxBody; l.long {
			l.text = nil
		} else {
			l.text = append(l.text, part...)
		}
		if err == nil {
			return l
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			if len(l.text) == 0 && !l.long || !errors.Is(err, io.EOF) {
				l.err = err
			}
			return l
		}
	}
}

// Read returns the next message.
func (p *pipe) Read(ctx context.Context) (jsonrpc.Message, error) {
	for {
		var l line
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-p.closed:
			return nil, io.EOF
		case l = <-p.reading:
		}
		text := bytes.TrimSpace(l.text)
		switch {
		case l.err != nil:
			p.mu.Lock()
			p.eof = errors.Is(l.err, io.EOF)
			p.mu.Unlock()
			p.drain(ctx)
			return nil, l.err
		case l.long:
			p.refuse(nil, jsonrpc.CodeInvalidRequest, fmt.Sprintf("message: longer than %d bytes", maxBody))
			continue
		case len(text) == 0:
			continue
		}
		m, err := p.message(text)
		if err != nil {
			return nil, err
		}
		if m != nil {
			return m, nil
		}
	}
}

// drain waits until what was asked is answered: a client may close its end as soon
// as it has asked.
func (p *pipe) drain(ctx context.Context) {
	for range maxAsked {
		select {
		case p.room <- struct{}{}:
		case <-p.closed:
			return
		case <-ctx.Done():
			return
		}
	}
}

// message reads a line; nil: it was refused.
func (p *pipe) message(text []byte) (jsonrpc.Message, error) {
	var head struct {
		ID     json.RawMessage `json:"id"`
		Params json.RawMessage `json:"params"`
	}
	if !json.Valid(text) {
		p.refuse(nil, jsonrpc.CodeParseError, "message: not JSON")
		return nil, nil
	}
	if err := json.Unmarshal(text, &head); err != nil {
		p.refuse(nil, jsonrpc.CodeInvalidRequest, "message: want one JSON-RPC object a line, no batch")
		return nil, nil
	}
	m, err := jsonrpc.DecodeMessage(text)
	if err != nil {
		p.refuse(head.ID, jsonrpc.CodeInvalidRequest, "message: "+err.Error())
		return nil, nil
	}
	req, ok := m.(*jsonrpc.Request)
	if !ok {
		return nil, nil // an answer: we asked nothing
	}
	if !req.IsCall() {
		return m, nil
	}
	p.mu.Lock()
	twice := p.wait[req.ID]
	p.wait[req.ID] = true
	p.mu.Unlock()
	if twice {
		p.refuse(head.ID, jsonrpc.CodeInvalidRequest, "message: a question with this id waits for its answer")
		return nil, nil
	}
	select {
	case p.room <- struct{}{}:
		return m, nil
	case <-p.closed:
		return nil, io.EOF
	}
}

// refuse answers what is no message.
func (p *pipe) refuse(id json.RawMessage, code int64, why string) {
	if len(id) == 0 {
		id = json.RawMessage("null")
	}
	text, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "error": map[string]any{"code": code, "message": why}})
	if err == nil {
		p.put(text)
	}
}

func (p *pipe) put(text []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.out.Write(append(text, '\n'))
	return err
}

// Write writes a message.
func (p *pipe) Write(ctx context.Context, m jsonrpc.Message) error {
	text, err := jsonrpc.EncodeMessage(m)
	if err != nil {
		return err
	}
	err = p.put(text)
	if resp, ok := m.(*jsonrpc.Response); ok {
		p.mu.Lock()
		asked := p.wait[resp.ID]
		delete(p.wait, resp.ID)
		p.mu.Unlock()
		if asked {
			<-p.room
		}
	}
	return err
}

// Close ends the reading.
func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.in.Close()
}

// ended tells whether the client's end was closed.
func (p *pipe) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.eof
}
