// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
)

// fake is a server of MQTT 3.1.1 that grants everything, and delivers what its fault makes of the messages to every subscriber.
type fake struct {
	// fault turns the n-th PUBLISH into those that are delivered; nil delivers it as it is.
	fault func(n int, packet []byte) [][]byte
	// deaf has it not acknowledge what is published.
	deaf bool
	// cutAfter has it close the connection of a publisher after so many messages; 0 is never.
	cutAfter int
	// refuse is the return code of its CONNACKs.
	refuse byte

	mu   sync.Mutex
	subs []net.Conn
	n    int
}

// listen serves until the end of the test.
func (f *fake) listen(t *testing.T, c *tls.Config) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if c != nil {
		l = tls.NewListener(l, c)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				f.serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return addr
}

func (f *fake) serve(c net.Conn) {
	in := bufio.NewReader(c)
	published := 0
	for {
		first, err := in.ReadByte()
		if err != nil {
			return
		}
		size, err := binary.ReadUvarint(in)
		if err != nil {
			return
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		switch first >> 4 {
		case 1:
			c.Write([]byte{0x20, 2, 0, f.refuse})
		case 8:
			f.mu.Lock()
			f.subs = append(f.subs, c)
			f.mu.Unlock()
			codes := bytes.Repeat([]byte{1}, bytes.Count(body[2:], []byte("/")))
			c.Write(append([]byte{0x90, byte(2 + len(codes)), body[0], body[1]}, codes...))
		case 3:
			f.publish(c, first, body)
			if published++; published == f.cutAfter {
				return
			}
		case 12:
			c.Write([]byte{0xd0, 0})
		case 14:
			return
		}
	}
}

func (f *fake) publish(c net.Conn, first byte, body []byte) {
	if first&0x06 != 0 && !f.deaf {
		at := 2 + binary.BigEndian.Uint16(body)
		c.Write([]byte{0x40, 2, body[at], body[at+1]})
	}
	packet := append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...)
	f.mu.Lock()
	defer f.mu.Unlock()
	out := [][]byte{packet}
	if f.fault != nil {
		out = f.fault(f.n, packet)
	}
	f.n++
	for _, s := range f.subs {
		for _, b := range out {
			s.Write(b)
		}
	}
}
