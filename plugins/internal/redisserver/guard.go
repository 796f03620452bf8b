// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package redisserver

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
)

// Bounds of what a server may send. The client library believes the lengths that it reads and makes room for them at once: a
// server, or whoever answers in its place, could end the broker with ten bytes.
const (
	maxText  = 1 << 20 // bytes of a text
	maxItems = 4096    // of an array or map
	maxLine  = 64 << 10
	maxDepth = 8 // of arrays in arrays
)

var errTooLarge = errors.New("the answer is too large, or not one of Redis's")

// guard is a connection that reads only answers within bounds. It follows RESP, versions 2 and 3, as far as lengths go.
type guard struct {
	net.Conn
	skip int64   // bytes of a text that are still to come
	line []byte  // the line so far, its head alone
	size int     // of the line so far
	open []int64 // items that are still to come, by depth
	bad  bool
}

// headMost is how many bytes of a line are kept: a type and a length.
const headMost = 24

// Read reads, and fails for good with the first length out of bounds.
func (g *guard) Read(p []byte) (int, error) {
	if g.bad {
		return 0, errTooLarge
	}
	n, err := g.Conn.Read(p)
	if !g.follow(p[:n]) {
		g.bad = true
		return 0, errTooLarge
	}
	return n, err
}

func (g *guard) follow(b []byte) bool {
	for len(b) > 0 {
		if g.skip > 0 {
			n := min(g.skip, int64(len(b)))
			b, g.skip = b[n:], g.skip-n
			continue
		}
		c := b[0]
		b = b[1:]
		if c != '\n' {
			if g.size++; g.size > maxLine {
				return false
			}
			if len(g.line) < headMost {
				g.line = append(g.line, c)
			}
			continue
		}
		if !g.ended() {
			return false
		}
		g.line, g.size = g.line[:0], 0
	}
	return true
}

// ended judges a whole line.
func (g *guard) ended() bool {
	if len(g.line) < 2 || g.line[len(g.line)-1] != '\r' && g.size <= headMost {
		return false
	}
	switch g.line[0] {
	case '+', '-', ':', '_', ',', '#', '(':
		g.item()
		return true
	case '$', '!', '=':
		n, ok := g.length(maxText)
		if ok && n >= 0 {
			g.skip = n + 2
		}
		g.item()
		return ok
	case '*', '~', '>', '%':
		n, ok := g.length(maxItems)
		if !ok || n <= 0 {
			g.item()
			return ok
		}
		if g.line[0] == '%' {
			n *= 2
		}
		g.open = append(g.open, n)
		return len(g.open) <= maxDepth
	}
	return false // attributes and streams too: nobody asks for them
}

// item counts one that has come whole, or whose text is all that is left of it.
func (g *guard) item() {
	for n := len(g.open); n > 0; n-- {
		if g.open[n-1]--; g.open[n-1] > 0 {
			return
		}
		g.open = g.open[:n-1] // whole, so an item of the one around it
	}
}

// length reads the line's; -1 is none.
func (g *guard) length(most int64) (int64, bool) {
	n, err := strconv.ParseInt(string(g.line[1:len(g.line)-1]), 10, 64)
	return n, err == nil && n >= -1 && n <= most
}

// dial connects, over TLS where c is given: each address is its own server name.
func dial(ctx context.Context, address string, d *net.Dialer, c *tls.Config) (net.Conn, error) {
	if c == nil {
		conn, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return &guard{Conn: conn}, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	c = c.Clone()
	c.ServerName = host
	conn, err := (&tls.Dialer{NetDialer: d, Config: c}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &guard{Conn: conn}, nil
}
