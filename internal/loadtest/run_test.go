// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package loadtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/mqtt"
	"github.com/noctule/noctule/transport/std"
)

// serve runs a broker for the time of the test and gives its address.
func serve(t *testing.T) string { return serveWith(t, std.ListenerOptions{}) }

func serveWith(t *testing.T, o std.ListenerOptions) string {
	l, err := std.Listen(t.Context(), "tcp4", "127.0.0.1:0", std.ListenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := std.New(std.Options{Loops: b.Loops(), NewCore: b.Core})
	served := make(chan error, 1)
	go func() { served <- server.Serve("test", l, o) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
		b.Drain(context.Background())
		server.Close()
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// options are those of a short run.
func options(m Mode, addr string) Options {
	o := Defaults(m)
	o.Server = &url.URL{Scheme: "mqtt", Host: addr}
	o.Count, o.ConnectInterval, o.Patience, o.Within = 3, 0, 200*time.Millisecond, 5*time.Second
	o.Time = 300 * time.Millisecond
	if m != Conn {
		o.Topic = "bench/%i"
	}
	o.Size, o.Interval = 64, time.Millisecond
	return o
}

// pairs are publishers with a receiver each.
func pairs(addr string, qos mqtt.QoS) Options {
	o := options(Pub, addr)
	o.Subscribers, o.QoS, o.Version, o.Time, o.Limit = o.Count, qos, mqtt.V311, 5*time.Second, 60
	return o
}

func mustRun(t *testing.T, o Options) *Report {
	t.Helper()
	rep, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

// engines are those of this system.
func engines() []Engine {
	if runtime.GOOS == "linux" {
		return []Engine{Epoll, Library}
	}
	return []Engine{Library}
}

func TestEveryEngineVersionAndQoS(t *testing.T) {
	addr := serve(t)
	for _, engine := range engines() {
		for _, v := range []mqtt.Version{mqtt.V31, mqtt.V311, mqtt.V5} {
			for qos := range mqtt.QoS(3) {
				for _, every := range []time.Duration{0, time.Millisecond} {
					t.Run(fmt.Sprintf("%s, %s, QoS %d, every %s", engine, v, qos, every), func(t *testing.T) {
						o := pairs(addr, qos)
						o.Engine, o.Version, o.Interval = engine, v, every
						rep := mustRun(t, o)
						if !rep.Kept || rep.Engine != engine || rep.Connected != 6 || rep.Sent != o.Limit || rep.Received != o.Limit ||
							rep.Lost+rep.Unchecked != 0 || qos > 0 && rep.Acked != o.Limit || rep.Deliveries.Count != int64(o.Limit) {
							t.Errorf("report %+v", rep)
						}
					})
				}
			}
		}
	}
}

func TestFanInAndFanOut(t *testing.T) {
	addr := serve(t)
	for _, c := range []struct {
		topic       string
		subscribers int
		each        uint64
	}{{"in/%i", 1, 1}, {"in/%c", 2, 1}, {"out", 5, 5}} {
		o := pairs(addr, 1)
		o.Topic, o.Subscribers = c.topic, c.subscribers
		if rep := mustRun(t, o); !rep.Kept || rep.Received != c.each*o.Limit || rep.Lost != 0 {
			t.Errorf("%s to %d: %+v", c.topic, c.subscribers, rep)
		}
	}
}

func TestSubChecksWhatAnotherRunPublishes(t *testing.T) {
	addr := serve(t)
	for _, c := range []struct {
		filter string
		want   uint64
	}{{"bench/#", 120}, {"$share/all/bench/#", 60}} {
		ready := make(chan struct{})
		o := options(Sub, addr)
		o.Topic, o.Count, o.QoS, o.Limit, o.Time = c.filter, 2, 1, c.want, 8*time.Second
		o.Progress = func(p Progress) {
			if p.Connected == 2 && p.Received == 0 {
				close(ready)
			}
		}
		published := make(chan error, 1)
		go func() {
			<-ready
			p := pairs(addr, 1)
			p.Subscribers = 0
			_, err := Run(context.Background(), p)
			published <- err
		}()
		rep := mustRun(t, o)
		if err := <-published; err != nil {
			t.Fatal(err)
		}
		if !rep.Kept || rep.Received != c.want || rep.Unchecked+rep.Lost != 0 {
			t.Errorf("%s: %+v", c.filter, rep)
		}
	}
}

// A server that loses, repeats and reorders is found out.
func TestFaultsAreFound(t *testing.T) {
	var kept []byte
	lose := func(n int, p []byte) [][]byte {
		if n%10 == 4 {
			return nil
		}
		return [][]byte{p}
	}
	repeat := func(n int, p []byte) [][]byte {
		if n%10 == 4 {
			return [][]byte{p, p}
		}
		return [][]byte{p}
	}
	swap := func(n int, p []byte) [][]byte {
		switch n % 10 {
		case 4:
			kept = p
			return nil
		case 5:
			return [][]byte{p, kept}
		}
		return [][]byte{p}
	}
	for _, engine := range engines() {
		for _, c := range []struct {
			name   string
			server *fake
			qos    mqtt.QoS
			want   Checks
			unack  uint64
			broken string // empty: no promise was broken
		}{
			{"nothing wrong", &fake{}, 1, Checks{}, 0, ""},
			{"loss at QoS 1", &fake{fault: lose}, 1, Checks{Lost: 6}, 0, "6 messages above QoS 0 were lost"},
			{"loss at QoS 0", &fake{fault: lose}, 0, Checks{Lost: 6}, 0, ""},
			{"twice at QoS 1", &fake{fault: repeat}, 1, Checks{Duplicated: 6}, 0, ""},
			{"twice at QoS 0", &fake{fault: repeat}, 0, Checks{Duplicated: 6}, 0, "6 messages came twice at QoS 0"},
			{"out of order", &fake{fault: swap}, 1, Checks{Reordered: 6}, 0, "6 messages came out of order"},
			{"out of order at QoS 0", &fake{fault: swap}, 0, Checks{Reordered: 6}, 0, "6 messages came out of order"},
			{"no PUBACK", &fake{deaf: true}, 1, Checks{}, 32, "32 messages were not acknowledged"},
		} {
			t.Run(string(engine)+", "+c.name, func(t *testing.T) {
				o := pairs(c.server.listen(t, nil), c.qos)
				o.Engine, o.Count, o.Subscribers, o.Time = engine, 1, 1, time.Second
				rep := mustRun(t, o)
				if rep.Checks != c.want || rep.Unacknowledged != c.unack || rep.Kept != (c.broken == "") || strings.Join(rep.Broken, "; ") != c.broken {
					t.Errorf("report %+v, want %+v and %q", rep, c.want, c.broken)
				}
			})
		}
	}
}

func TestConnectionsThatEndOrComeToNothing(t *testing.T) {
	for _, engine := range engines() {
		cut := pairs((&fake{cutAfter: 3}).listen(t, nil), 1)
		cut.Engine, cut.Count, cut.Subscribers = engine, 2, 0
		if rep := mustRun(t, cut); rep.Kept || rep.Cut != 2 || rep.Elapsed > 3 || len(rep.Errors) == 0 {
			t.Errorf("%s: cut: %+v", engine, rep)
		}
		refused := options(Conn, (&fake{refuse: 5}).listen(t, nil))
		refused.Engine, refused.Version, refused.Count = engine, mqtt.V311, 200
		if rep := mustRun(t, refused); rep.Connected != 0 || rep.Failed < hopeless || rep.Failed > 100 || len(rep.Errors) != 1 {
			t.Errorf("%s: refused: %+v", engine, rep)
		}
	}
}

func TestClientsThatAreNeverReadyHaveFailed(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0") // accepts, by the kernel, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, engine := range engines() {
		o := options(Conn, l.Addr().String())
		o.Engine, o.Within = engine, 100*time.Millisecond
		if rep := mustRun(t, o); rep.Failed != 3 || rep.Connected != 0 || rep.Setup > 3 {
			t.Errorf("%s: %+v", engine, rep)
		}
	}
}

func TestTLSWithEveryEngine(t *testing.T) {
	h := httptest.NewTLSServer(nil)
	defer h.Close()
	roots := x509.NewCertPool()
	roots.AddCert(h.Certificate())
	key := h.TLS.Certificates[0]
	// The server wants a certificate of the clients too.
	addr := serveWith(t, std.ListenerOptions{TLS: &tls.Config{Certificates: []tls.Certificate{key}, ClientAuth: tls.RequireAnyClientCert}})
	for _, engine := range engines() {
		for _, scheme := range []string{"mqtts", "wss"} {
			t.Run(string(engine)+", "+scheme, func(t *testing.T) {
				o := pairs(addr, 1)
				o.Engine, o.Server = engine, &url.URL{Scheme: scheme, Host: addr, Path: "/mqtt"}
				o.TLS = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{key}}
				if rep := mustRun(t, o); !rep.Kept || rep.Engine != engine || rep.Connected != 6 || rep.Received != o.Limit {
					t.Errorf("report %+v", rep)
				}
				o.TLS = &tls.Config{RootCAs: roots, ServerName: "broker.example"}
				rep := mustRun(t, o)
				if rep.Failed != rep.Clients || rep.Connected != 0 || !strings.Contains(fmt.Sprint(rep.Errors), "x509") {
					t.Errorf("with another name: %+v", rep)
				}
				o.TLS = nil // what the system trusts
				if rep := mustRun(t, o); rep.Failed != rep.Clients || !strings.Contains(fmt.Sprint(rep.Errors), "x509") {
					t.Errorf("unknown authority: %+v", rep)
				}
			})
		}
	}
}

// A broker that cannot deliver as fast as it is sent to drops QoS 0; what is missing is in the report, and breaks no promise.
func TestSlowConsumerAtQoS0(t *testing.T) {
	o := pairs((&fake{fault: func(n int, p []byte) [][]byte {
		if n%2 > 0 { // its queue is full
			return nil
		}
		return [][]byte{p}
	}}).listen(t, nil), 0)
	o.Interval, o.Count, o.Subscribers = 0, 1, 1
	rep := mustRun(t, o)
	if !rep.Kept || rep.Lost != o.Limit/2 || rep.Received != o.Limit/2 {
		t.Errorf("report %+v", rep)
	}
}

func TestRunEndsWithFinishAndWithTime(t *testing.T) {
	addr := serve(t)
	for _, m := range []Mode{Conn, Pub, Sub} {
		o := options(m, addr)
		if rep := mustRun(t, o); rep.Interrupted || !rep.Kept || rep.Elapsed < 0.3 || rep.Elapsed > 3 || rep.Connected != 3 {
			t.Errorf("%s: %+v", m, rep)
		}
		finish := make(chan struct{})
		o.Time, o.Finish = time.Hour, finish
		o.Progress = func(Progress) { close(finish) }
		if rep := mustRun(t, o); !rep.Interrupted || !rep.Kept || rep.Elapsed > 10 {
			t.Errorf("%s: %+v", m, rep)
		}
		ctx, cancel := context.WithCancel(t.Context())
		o.Finish, o.Progress = nil, func(Progress) { cancel() }
		if _, err := Run(ctx, o); err != context.Canceled {
			t.Errorf("%s ends with %v", m, err)
		}
	}
}

func TestRateIsThatOfAllClients(t *testing.T) {
	o := options(Pub, serve(t))
	o.Rate, o.Time = 500, time.Second
	if rep := mustRun(t, o); rep.Sent < 400 || rep.Sent > 510 {
		t.Errorf("%d messages in a second, want about 500", rep.Sent)
	}
}
