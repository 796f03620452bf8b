// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package websocket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/noctule/noctule/internal/testkit/memnet"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connect makes the handshake with gobwas/ws as the server, which then runs serve.
func connect(t *testing.T, serve func(conn net.Conn)) net.Conn {
	t.Helper()
	client, server := memnet.Pipe(0)
	go func() {
		defer server.Close()
		u := ws.Upgrader{Protocol: func(p []byte) bool { return string(p) == "mqtt" }}
		if _, err := u.Upgrade(server); err != nil {
			t.Errorf("server: %v", err)
			return
		}
		serve(server)
	}()
	c, err := Client(t.Context(), client, "broker.example", "/mqtt", http.Header{"Authorization": {"x"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestClientAgainstAnotherServer(t *testing.T) {
	last := make(chan ws.Frame, 1)
	c := connect(t, func(conn net.Conn) {
		for {
			h, err := ws.ReadHeader(conn)
			f := ws.Frame{Header: h, Payload: make([]byte, h.Length)}
			if err == nil {
				_, err = io.ReadFull(conn, f.Payload)
			}
			if err != nil || !f.Header.Masked {
				t.Errorf("server: masked %t, %v", f.Header.Masked, err)
				return
			}
			f = ws.UnmaskFrameInPlace(f)
			switch f.Header.OpCode {
			case ws.OpClose:
				last <- f
				return
			case ws.OpBinary:
				half := len(f.Payload) / 2
				ws.WriteFrame(conn, ws.NewPingFrame([]byte("still there?")))
				ws.WriteFrame(conn, ws.NewFrame(ws.OpBinary, false, f.Payload[:half]))
				ws.WriteFrame(conn, ws.NewFrame(ws.OpContinuation, true, f.Payload[half:]))
			case ws.OpPong:
				if string(f.Payload) != "still there?" {
					t.Errorf("pong %q", f.Payload)
				}
			}
		}
	})
	for _, n := range []int{1, 125, 126, 1000, 65535, 65536, 300_000} {
		want := bytes.Repeat([]byte{byte(n)}, n)
		go c.Write(want) // a failure shows below
		got := make([]byte, n)
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	c.Close()
	if code, _ := ws.ParseCloseFrameData((<-last).Payload); code != ws.StatusNormalClosure {
		t.Errorf("the server saw a close frame with code %d", code)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
}

func TestClientSeesTheServersClose(t *testing.T) {
	c := connect(t, func(conn net.Conn) {
		wsutil.WriteServerMessage(conn, ws.OpBinary, []byte("last"))
		ws.WriteFrame(conn, ws.NewCloseFrame(ws.NewCloseFrameBody(1001, "bye")))
		io.Copy(io.Discard, conn) // the answer
	})
	b, err := io.ReadAll(c)
	if string(b) != "last" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestClientRefusesMaskedFrames(t *testing.T) {
	c := connect(t, func(conn net.Conn) {
		conn.Write(frame(0x82, "masked"))
		io.Copy(io.Discard, conn)
	})
	_, err := c.Read(make([]byte, 10))
	if e, ok := errors.AsType[*CloseError](err); !ok || e.Code != CloseProtocol {
		t.Errorf("read: %v", err)
	}
}

func TestClientReadsFramesThatCameWithTheHandshake(t *testing.T) {
	client, server := memnet.Pipe(0)
	defer server.Close()
	go answer(server, func(r string) string {
		_, key, _ := strings.Cut(r, "Sec-WebSocket-Key: ")
		key, _, _ = strings.Cut(key, "\r\n")
		return "HTTP/1.1 101 ok\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Protocol: mqtt\r\n" +
			"Sec-WebSocket-Accept: " + acceptKey(key) + "\r\n\r\n" + "\x82\x05early"
	})
	c, err := Client(t.Context(), client, "b", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "early" {
		t.Errorf("read %q, %v", b, err)
	}
}

// answer reads a request and sends what f makes of it.
func answer(conn net.Conn, f func(request string) string) {
	b := make([]byte, MaxRequest)
	n := 0
	for !bytes.Contains(b[:n], []byte("\r\n\r\n")) {
		k, err := conn.Read(b[n:])
		if err != nil {
			return
		}
		n += k
	}
	io.WriteString(conn, f(string(b[:n])))
}

func TestClientRefusesBadAnswers(t *testing.T) {
	good := "HTTP/1.1 101 ok\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: KEY\r\n"
	for name, response := range map[string]string{
		"404":              "HTTP/1.1 404 no\r\nContent-Length: 0\r\n\r\n",
		"not HTTP":         "hello\r\n\r\n",
		"no upgrade":       strings.Replace(good, "Upgrade: websocket", "X: y", 1) + "\r\n",
		"wrong key":        strings.Replace(good, "KEY", "AAAA", 1) + "\r\n",
		"other protocol":   strings.Replace(good, "mqtt", "chat", 1) + "\r\n",
		"an extension":     good + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
		"endless":          good + "X: " + strings.Repeat("x", 2*MaxRequest),
		"nothing, the end": "",
	} {
		client, server := memnet.Pipe(0)
		go func() {
			answer(server, func(r string) string {
				_, key, _ := strings.Cut(r, "Sec-WebSocket-Key: ")
				key, _, _ = strings.Cut(key, "\r\n")
				return strings.Replace(response, "KEY", acceptKey(key), 1)
			})
			server.Close()
		}()
		if _, err := Client(t.Context(), client, "b", "/", nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestClientGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := memnet.Pipe(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := Client(ctx, client, "b", "/", nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("handshake: %v", err)
		}
	})
}

// TestClientCloseIsBounded: the server has stopped reading.
func TestClientCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := memnet.Pipe(100)
		defer server.Close()
		c := newClientConn(client)
		wrote := make(chan error)
		go func() {
			_, err := c.Write(make([]byte, 1000))
			wrote <- err
		}()
		synctest.Wait()
		begin := time.Now()
		c.Close()
		if took := time.Since(begin); took > 2*closeTime {
			t.Errorf("took %v", took)
		}
		if err := <-wrote; err == nil {
			t.Error("the write has succeeded")
		}
	})
}
