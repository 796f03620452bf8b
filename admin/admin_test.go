// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/noctule/noctule/broker"
	"github.com/noctule/noctule/broker/limit"
	"github.com/noctule/noctule/plugin"
	"github.com/noctule/noctule/transport/std"
)

func TestMain(m *testing.M) {
	// net/http sleeps half a second after an answer that ends a connection.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// source is what a quiet broker tells, and can be changed by tests.
func source(t *testing.T) *Source {
	t.Helper()
	b, err := broker.New(broker.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	sockets := std.New(std.Options{Loops: b.Loops(), NewCore: b.Core})
	t.Cleanup(func() {
		sockets.Close()
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &Source{
		Version: "v1", Phase: func() Phase { return Ready }, Alive: func(context.Context) bool { return true },
		Listeners: func() []string { return []string{"mqtt://127.0.0.1:1883"} }, Broker: b, Transport: sockets, Started: time.Now(),
	}
}

// ask sends a request as if from a peer.
func ask(src *Source, hosts []string, peer, host, path string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", path, nil)
	r.Host, r.RemoteAddr = host, peer
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	guard(hosts, routes(*src)).ServeHTTP(w, r)
	return w
}

const local = "127.0.0.1:5000"

func TestHostGuard(t *testing.T) {
	src := source(t)
	for host, want := range map[string]int{
		"127.0.0.1:18083": 200, "localhost:18083": 200, "LOCALHOST": 200, "localhost.": 200, "[::1]:18083": 200, "x.localhost": 200,
		"192.0.2.7": 200, "broker.example": 200, "BROKER.example:18083": 200,
		"evil.example": 421, "evil.example:18083": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421, "": 421, "broker.example.evil": 421,
	} {
		if got := ask(src, []string{"broker.example"}, local, host, "/healthz").Code; got != want {
			t.Errorf("Host %q: got %d, want %d", host, got, want)
		}
	}
}

func TestOtherPagesAreRefused(t *testing.T) {
	src := source(t)
	for site, want := range map[string]int{"": 200, "none": 200, "same-origin": 200, "same-site": 403, "cross-site": 403} {
		if got := ask(src, nil, local, "localhost", "/metrics", "Sec-Fetch-Site", site).Code; got != want {
			t.Errorf("%q: got %d, want %d", site, got, want)
		}
	}
}

func TestHealthAndReadiness(t *testing.T) {
	src := source(t)
	for _, c := range []struct {
		phase         Phase
		alive         bool
		health, ready int
	}{{Starting, true, 200, 503}, {Ready, true, 200, 200}, {Ready, false, 503, 200}, {Draining, true, 200, 503}, {Stopped, false, 200, 503}} {
		src.Phase = func() Phase { return c.phase }
		src.Alive = func(context.Context) bool { return c.alive }
		if got := ask(src, nil, local, "localhost", "/healthz").Code; got != c.health {
			t.Errorf("%s, alive %t: health %d, want %d", c.phase, c.alive, got, c.health)
		}
		if got := ask(src, nil, local, "localhost", "/readyz").Code; got != c.ready {
			t.Errorf("%s: readiness %d, want %d", c.phase, got, c.ready)
		}
	}
}

func TestProfilesAreForThisHost(t *testing.T) {
	src := source(t)
	for peer, want := range map[string]int{local: 200, "[::1]:9": 200, "[::ffff:127.0.0.1]:9": 200, "192.0.2.7:9": 403, "@": 403} {
		if got := ask(src, nil, peer, "localhost", "/debug/pprof/").Code; got != want {
			t.Errorf("%s: got %d, want %d", peer, got, want)
		}
	}
}

// TestMetrics looks for every series that there can be, with the labels of the closed lists.
func TestMetrics(t *testing.T) {
	src := source(t)
	l := src.Broker.Limits()
	l.Rules = []limit.Rule{{Name: "few", MaxConnections: 1}}
	if err := src.Broker.SetLimits(l); err != nil {
		t.Fatal(err)
	}
	body := ask(src, nil, local, "localhost", "/metrics").Body.String()
	want := []string{
		"noctule_limit_hits_total{action=\"connections_refused\",rule=\"few\"} 0", "noctule_limit_hits_total{action=\"paused\",rule=\"few\"} 0",
		"noctule_limit_keys{rule=\"few\"} 0", "noctule_overloaded{strain=\"memory\"} 0", "noctule_overloads_total{strain=\"loop\"} 0",
		"noctule_memory_used_bytes 0", "noctule_memory_limit_bytes 0",
		"noctule_build_info{version=\"v1\"} 1", "noctule_phase{phase=\"ready\"} 1", "noctule_phase{phase=\"draining\"} 0", "noctule_connections 0",
		"noctule_store_sessions 0", "noctule_retained_messages 0", "noctule_loop_lag_seconds{loop=\"0\"}", "noctule_sockets 0", "go_goroutines",
		"noctule_sockets_refused_total{cause=\"tls_handshake\"} 0", "noctule_store_pending_commands 0",
	}
	for _, reason := range broker.PauseReasons {
		want = append(want, "noctule_connections_paused{reason=\""+reason+"\"} 0")
	}
	want = append(want, "noctule_loop_iteration_seconds_bucket{loop=\"0\",le=\"0.05\"}", "noctule_loop_iteration_seconds_count{loop=\"0\"}",
		"noctule_loop_handovers_total{loop=\"0\"}", "noctule_loop_wakeups_total{loop=\"0\"}", "noctule_loop_helped_total{loop=\"0\"}", "noctule_loop_stalls_total{loop=\"0\"} 0",
		"noctule_loop_stalled{loop=\"0\"} 0", "noctule_socket_unsent_bytes 0", "noctule_sockets_blocked 0", "noctule_handover_bytes 0",
		"noctule_handover_loop_bytes 0", "noctule_payload_blocks_used_bytes", "noctule_payload_blocks_pooled_bytes",
		"noctule_payload_blocks_taken_total", "noctule_payload_blocks_made_total")
	for _, c := range broker.Counters() {
		want = append(want, "\nnoctule_"+c.String()+"_total ")
	}
	for _, c := range plugin.Causes() {
		for _, name := range []string{"connections_ended", "connections_refused", "messages_dropped"} {
			want = append(want, "noctule_"+name+"_total{cause=\""+c.String()+"\"} 0")
		}
	}
	for _, w := range want {
		if !strings.Contains(body, w) {
			t.Errorf("%s is missing", w)
		}
	}
	if strings.Contains(body, "Counted by the broker.") {
		t.Error("a counter has no help of its own")
	}
}

func TestStatusPageEscapes(t *testing.T) {
	src := source(t)
	src.Listeners = func() []string { return []string{"unix:///<script>alert(1)</script>"} }
	w := ask(src, nil, local, "localhost", "/")
	body := w.Body.String()
	if strings.Contains(body, "<script>") || !strings.Contains(body, "&lt;script&gt;") || !strings.Contains(body, "clients connected") {
		t.Errorf("got %s", body)
	}
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") {
		t.Errorf("got policy %q", csp)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	src := source(t)
	if got := ask(src, nil, local, "localhost", "/nothing").Code; got != 404 {
		t.Errorf("got %d", got)
	}
	r := httptest.NewRequest("POST", "/metrics", nil)
	r.Host = "localhost"
	w := httptest.NewRecorder()
	guard(nil, routes(*src)).ServeHTTP(w, r)
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: got %d", w.Code)
	}
}

// TestServer goes over a socket: a header beyond the bound is refused, and Close ends requests under way.
func TestServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(l, Options{Source: *source(t)})
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()

	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", mostHeader+8192)+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %v, %v", resp, err)
	}
	if err == nil {
		resp.Body.Close()
	}

	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
