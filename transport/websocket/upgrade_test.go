// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package websocket

import (
	"bufio"
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"
)

// request is a good one; the pairs replace or (with an empty value) remove headers.
func request(line string, pairs ...string) []byte {
	headers := map[string]string{
		"Host": "broker.example:8083", "Upgrade": "websocket", "Connection": "keep-alive, Upgrade",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": "mqtt",
	}
	for i := 0; i < len(pairs); i += 2 {
		headers[pairs[i]] = pairs[i+1]
	}
	var b bytes.Buffer
	b.WriteString(line + "\r\n")
	for _, name := range []string{"Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version",
		"Sec-WebSocket-Protocol", "Origin", "Content-Length", "Transfer-Encoding", "X"} {
		if v := headers[name]; v != "" {
			b.WriteString(name + ": " + v + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

var upgrader = Upgrader{Paths: []string{"/", "/mqtt"}, CheckOrigin: SameOrigin}

func TestUpgrade(t *testing.T) {
	b := request("GET /mqtt HTTP/1.1", "Origin", "http://broker.example:8083")
	for i := range b {
		if _, err := upgrader.Upgrade(b[:i]); !errors.Is(err, ErrShort) {
			t.Fatalf("%d bytes: %v", i, err)
		}
	}
	u, err := upgrader.Upgrade(append(b, "frames"...))
	if err != nil || u.Size != len(b) || u.Protocol != "mqtt" || u.Origin != "http://broker.example:8083" {
		t.Fatalf("%+v, %v", u, err)
	}
	want := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
	if string(u.Response) != want {
		t.Errorf("response %q", u.Response)
	}
}

func TestSubprotocolIsChosen(t *testing.T) {
	for offered, want := range map[string]string{
		"mqtt": "mqtt", "mqttv3.1": "mqttv3.1", "mqttv3.1, mqtt": "mqtt", "chat,mqtt": "mqtt", "chat": "", "MQTT": "", "": "",
	} {
		u, err := upgrader.Upgrade(request("GET / HTTP/1.1", "Sec-WebSocket-Protocol", offered))
		if u.Protocol != want || (err == nil) != (want != "") {
			t.Errorf("offered %q: chosen %q, %v; want %q [MQTT-6.0.0-4]", offered, u.Protocol, err, want)
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		in     []byte
		status int
		err    error
	}{
		{"POST", request("POST /mqtt HTTP/1.1"), 405, ErrRequest},
		{"not HTTP", []byte("GETTING"), 405, ErrRequest},
		{"HTTP/1.0", request("GET /mqtt HTTP/1.0"), 400, ErrRequest},
		{"HTTP/2", request("GET /mqtt HTTP/2.0"), 400, ErrRequest},
		{"malformed", []byte("GET /mqtt HTTP/1.1\r\nno colon\r\n\r\n"), 400, ErrRequest},
		{"no host", request("GET /mqtt HTTP/1.1", "Host", ""), 400, ErrRequest},
		{"another path", request("GET /other HTTP/1.1"), 404, ErrRequest},
		{"no upgrade", request("GET /mqtt HTTP/1.1", "Upgrade", ""), 426, ErrRequest},
		{"another upgrade", request("GET /mqtt HTTP/1.1", "Upgrade", "h2c"), 426, ErrRequest},
		{"no connection", request("GET /mqtt HTTP/1.1", "Connection", "close"), 426, ErrRequest},
		{"version 8", request("GET /mqtt HTTP/1.1", "Sec-WebSocket-Version", "8"), 426, ErrRequest},
		{"no key", request("GET /mqtt HTTP/1.1", "Sec-WebSocket-Key", ""), 400, ErrRequest},
		{"short key", request("GET /mqtt HTTP/1.1", "Sec-WebSocket-Key", "AAAA"), 400, ErrRequest},
		{"body", request("GET /mqtt HTTP/1.1", "Content-Length", "5"), 400, ErrRequest},
		{"chunks", request("GET /mqtt HTTP/1.1", "Transfer-Encoding", "chunked"), 400, ErrRequest},
		{"foreign origin", request("GET /mqtt HTTP/1.1", "Origin", "https://evil.example"), 403, ErrOrigin},
		{"null origin", request("GET /mqtt HTTP/1.1", "Origin", "null"), 403, ErrOrigin},
		{"endless headers", request("GET /mqtt HTTP/1.1", "X", strings.Repeat("x", MaxRequest)), 431, ErrRequest},
		{"two origins", request("GET /mqtt HTTP/1.1", "X", "y\r\nOrigin: http://a\r\nOrigin: http://b"), 400, ErrRequest},
	} {
		u, err := upgrader.Upgrade(c.in)
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(u.Response)), nil)
		if err != nil || resp.StatusCode != c.status || !resp.Close {
			t.Errorf("%s: answered %q", c.name, u.Response)
			continue
		}
		resp.Body.Close()
	}
}

func TestSameOrigin(t *testing.T) {
	for _, c := range []struct {
		origin, host string
		want         bool
	}{
		{"", "broker", true},
		{"http://broker", "broker", true},
		{"http://broker:80", "broker", true},
		{"https://broker", "broker:443", true},
		{"https://BROKER:8084", "broker:8084", true},
		{"http://broker:8083", "broker", false},
		{"http://evil", "broker", false},
		{"http://broker.evil", "broker", false},
		{"null", "broker", false},
		{"file://", "", false},
		{"http://[::1]:8083", "[::1]:8083", true},
		{"%zz", "broker", false},
	} {
		if got := SameOrigin(c.origin, c.host); got != c.want {
			t.Errorf("origin %q, host %q: %t", c.origin, c.host, got)
		}
	}
}

func TestLoopbackHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LocalHost:8083": true, "127.0.0.1": true, "127.9.9.9:80": true, "[::1]": true, "[::1]:8083": true,
		"broker": false, "localhost.evil": false, "10.0.0.1:80": false, "127.0.0.1.evil:80": false, "": false,
	} {
		if got := LoopbackHost(host); got != want {
			t.Errorf("%q: %t", host, got)
		}
	}
}

// FuzzUpgrade: whatever is asked, an answer is either an upgrade to MQTT or a complete refusal.
func FuzzUpgrade(f *testing.F) {
	f.Add(request("GET /mqtt HTTP/1.1"))
	f.Add(request("GET /mqtt HTTP/1.1", "Origin", "https://evil.example"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := upgrader.Upgrade(b)
		if errors.Is(err, ErrShort) {
			if len(b) >= MaxRequest || u.Response != nil {
				t.Fatalf("%d bytes, and it waits for more", len(b))
			}
			return
		}
		resp, perr := http.ReadResponse(bufio.NewReader(bytes.NewReader(u.Response)), nil)
		if perr != nil {
			t.Fatalf("answered %q: %v", u.Response, perr)
		}
		resp.Body.Close()
		if (err == nil) != (resp.StatusCode == 101) || err == nil && (u.Size > len(b) || u.Protocol == "") {
			t.Fatalf("%+v, %v", u, err)
		}
	})
}
