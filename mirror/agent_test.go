package mirror

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// agent is the program inside. It does what each line of its input says and
// answers with one line.
func agent() int {
	listeners := map[string]net.Listener{}
	var held []net.Conn
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		f := strings.Fields(in.Text())
		switch f[0] {
		case "listen": // network address
			l, err := listenPlain(f[1], f[2])
			if err == nil {
				listeners[l.Addr().String()] = l
				go echoes(l)
			}
			fmt.Println(name(err))
		case "close": // address
			fmt.Println(name(listeners[f[1]].Close()))
		case "ask": // address text
			fmt.Println(ask(f[1], f[2]))
		case "hold": // address
			c, err := net.Dial("tcp", f[1])
			if err == nil {
				held = append(held, c)
			}
			fmt.Println(name(err))
		case "say": // text, on the connection held last
			fmt.Println(say(held[len(held)-1], f[1]))
		case "abort":
			c := held[len(held)-1].(*net.TCPConn)
			c.SetLinger(0)
			fmt.Println(name(c.Close()))
		case "blurt": // address number of bytes: sends and leaves
			n, _ := strconv.Atoi(f[2])
			c, err := net.Dial("tcp", f[1])
			if err == nil {
				_, err = c.Write(make([]byte, n))
				c.Close()
			}
			fmt.Println(name(err))
		case "get": // URL
			fmt.Println(get(f[1]))
		case "flood": // number of listeners
			n, _ := strconv.Atoi(f[1])
			fmt.Println(flood(n, &held))
		case "swarm": // address number of connections
			n, _ := strconv.Atoi(f[2])
			fmt.Println(swarm(f[1], n, &held))
		}
	}
	return 0
}

// echoes serves connections until its listener is closed. "abort" makes it
// reset one.
func echoes(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go echo(c.(*net.TCPConn))
	}
}

func echo(c *net.TCPConn) {
	defer c.Close()
	p := make([]byte, 64<<10)
	for {
		n, err := c.Read(p)
		if strings.HasSuffix(string(p[:n]), "abort") {
			c.SetLinger(0)
			return
		}
		if _, werr := c.Write(p[:n]); werr != nil {
			return
		}
		if err != nil {
			return
		}
	}
}

// say sends text and waits for its echo.
func say(c net.Conn, text string) string {
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		return name(err)
	}
	p := make([]byte, len(text))
	if _, err := io.ReadFull(c, p); err != nil {
		return name(err)
	}
	return "ok " + string(p)
}

func get(url string) string {
	r, err := http.Get(url)
	if err != nil {
		return name(err)
	}
	defer r.Body.Close()
	p, err := io.ReadAll(r.Body)
	if err != nil {
		return name(err)
	}
	return r.Status + " " + strings.TrimSpace(string(p))
}

// kept keeps listeners from being collected.
var kept []net.Listener

func flood(n int, _ *[]net.Conn) string {
	for i := range n {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return fmt.Sprintf("%d: %v", i, err)
		}
		kept = append(kept, l)
	}
	return "ok"
}

func swarm(addr string, n int, held *[]net.Conn) string {
	for i := range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return fmt.Sprintf("%d: %v", i, err)
		}
		*held = append(*held, c)
	}
	return "ok"
}
