// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/transport"
	"github.com/noctule/noctule/transport/epoll"
)

// A wired broker listens on a real socket, served by its loops. Its clients are bare descriptors, used by one goroutine, so that what is
// measured is the broker's.
type wired struct {
	*broker.Broker
	t    testing.TB
	to   unix.Sockaddr
	open map[int]bool // descriptors of clients
	srv  *epoll.Server
}

func newWired(t testing.TB, loops int) *wired {
	b, err := broker.New(broker.Options{Loops: loops, NewPoller: epoll.NewPoller})
	if err != nil {
		t.Fatal(err)
	}
	s, err := epoll.New(transport.Options{Loops: b.Loops(), NewCore: b.Core})
	if err != nil {
		t.Fatal(err)
	}
	l, err := transport.Listen(t.Context(), "tcp", "127.0.0.1:0", transport.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w := &wired{Broker: b, t: t, open: map[int]bool{}, srv: s}
	w.to = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: l.Addr().(*net.TCPAddr).Port}
	served := make(chan error, 1)
	go func() { served <- s.Serve("wire", l, transport.ListenerOptions{}) }()
	t.Cleanup(func() {
		for fd := range w.open {
			w.close(fd)
		}
		l.Close()
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
		b.Shutdown(context.Background()) // nothing is kept
	})
	return w
}

// close hangs up.
func (w *wired) close(fd int) {
	if w.open[fd] {
		delete(w.open, fd)
		unix.Close(fd)
	}
}

// dial connects a client.
func (w *wired) dial(id string, v mqtt.Version) int {
	w.t.Helper()
	return w.dialWith(mqtt.Connect{Version: v, CleanStart: true, ClientID: []byte(id), KeepAlive: 600})
}

func (w *wired) dialWith(c mqtt.Connect) int {
	w.t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, w.to)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err == nil {
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.open[fd] = true
	w.send(fd, c.Append(nil))
	w.packet(fd, mqtt.CONNACK)
	return fd
}

func (w *wired) subscribe(fd int, filter string, q mqtt.QoS, v mqtt.Version) {
	w.t.Helper()
	s := mqtt.Subscribe{ID: 1, Subscriptions: []mqtt.Subscription{{Filter: []byte(filter), QoS: q}}}
	w.send(fd, s.Append(nil, v))
	w.packet(fd, mqtt.SUBACK)
}

func (w *wired) send(fd int, b []byte) {
	w.t.Helper()
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil {
			w.t.Fatal(err)
		}
		b = b[n:]
	}
}

// packet reads one small packet of a type.
func (w *wired) packet(fd int, want mqtt.PacketType) {
	w.t.Helper()
	var b [256]byte
	w.read(fd, b[:2])
	if mqtt.PacketType(b[0]>>4) != want || b[1] > 250 {
		w.t.Fatalf("got % x, want a %v", b[:2], want)
	}
	w.read(fd, b[:b[1]])
}

// read fills b, which must come within 20 s.
func (w *wired) read(fd int, b []byte) {
	w.t.Helper()
	for len(b) > 0 {
		n, err := unix.Read(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			w.t.Fatalf("%d bytes missing: %v", len(b), err)
		}
		b = b[n:]
	}
}

// processor is the processor time of this process, in microseconds.
func processor() float64 {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return float64(u.Utime.Sec+u.Stime.Sec)*1e6 + float64(u.Utime.Usec+u.Stime.Usec)
}

// BenchmarkWire sends bursts of QoS 0 messages to some receivers, over sockets, and reads all of them. us/delivery is processor time, that
// of the clients included.
func BenchmarkWire(b *testing.B) {
	for _, receivers := range []int{1, 100} {
		for _, burst := range []int{1, 8} {
			for _, size := range []int{128, 512, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10} {
				b.Run(fmt.Sprintf("to=%d/burst=%d/bytes=%d", receivers, burst, size), func(b *testing.B) {
					w := newWired(b, 1)
					var subs []int
					for i := range receivers {
						fd := w.dial(fmt.Sprint("s", i), mqtt.V311)
						w.subscribe(fd, "t", 0, mqtt.V311)
						subs = append(subs, fd)
					}
					pub := w.dial("p", mqtt.V311)
					p := mqtt.Publish{Topic: []byte("t"), Payload: make([]byte, size)}
					one := p.Append(nil, mqtt.V311)
					var all []byte
					for range burst {
						all = append(all, one...)
					}
					got := make([]byte, len(all))
					round := func() {
						w.send(pub, all)
						for _, fd := range subs {
							w.read(fd, got)
						}
					}
					for range 10 {
						round()
					}
					b.ReportAllocs()
					before := processor()
					for b.Loop() {
						round()
					}
					b.ReportMetric((processor()-before)/float64(b.N*burst*receivers), "us/delivery")
				})
			}
		}
	}
}
