// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package memnet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dial connects through a listener.
func dial(t *testing.T, o Options) (client, server *Conn) {
	t.Helper()
	l := o.Listen()
	t.Cleanup(func() { l.Close() })
	c, err := l.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*Conn), s.(*Conn)
}

// within runs a test in a bubble, where time stands still while anybody has something to do.
func within(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if n, err := io.WriteString(c, s); n != len(s) || err != nil {
		t.Fatalf("wrote %d of %d bytes, %v", n, len(s), err)
	}
}

func read(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != want {
		t.Fatalf("read %q, %v; want %q", b, err, want)
	}
}

func TestBothWays(t *testing.T) {
	within(t, func(t *testing.T) {
		c, s := dial(t, Options{})
		write(t, c, "up")
		write(t, s, "down")
		read(t, s, "up")
		read(t, c, "down")
		if s.RemoteAddr().String() != c.LocalAddr().String() || c.RemoteAddr().String() != s.LocalAddr().String() {
			t.Error("the ends do not agree on their addresses")
		}
	})
}

func TestWriteBlocksWhileTheBufferIsFull(t *testing.T) {
	within(t, func(t *testing.T) {
		c, s := dial(t, Options{Buffer: 10})
		done := false
		go func() {
			write(t, c, "0123456789abcdefghijklmno")
			done = true
		}()
		synctest.Wait()
		if done {
			t.Fatal("25 bytes fit into a buffer of 10")
		}
		read(t, s, "0123456789abcdefghijklmno")
		synctest.Wait()
		if !done {
			t.Fatal("the writer still waits")
		}
	})
}

func TestDeadlines(t *testing.T) {
	within(t, func(t *testing.T) {
		c, _ := dial(t, Options{Buffer: 10})
		begin := time.Now()
		c.SetReadDeadline(begin.Add(3 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
		if took := time.Since(begin); took != 3*time.Second {
			t.Errorf("the read waited %v", took)
		}
		c.SetWriteDeadline(begin.Add(5 * time.Second))
		if n, err := c.Write(make([]byte, 11)); n != 10 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %d, %v", n, err)
		}
		if took := time.Since(begin); took != 5*time.Second {
			t.Errorf("the write waited until %v", took)
		}
		var ne net.Error
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("not a timeout: %v", err)
		}
	})
}

func TestDeadlineWakesWhoWaits(t *testing.T) {
	within(t, func(t *testing.T) {
		c, s := dial(t, Options{})
		failed := make(chan error)
		go func() {
			_, err := c.Read(make([]byte, 1))
			failed <- err
		}()
		synctest.Wait()
		c.SetDeadline(time.Unix(1, 0))
		if err := <-failed; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		c.SetDeadline(time.Time{})
		write(t, s, "on")
		read(t, c, "on")
	})
}

func TestCloseLetsTheOtherEndReadTheRest(t *testing.T) {
	within(t, func(t *testing.T) {
		c, s := dial(t, Options{})
		write(t, c, "rest")
		c.Close()
		read(t, s, "rest")
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read: %v", err)
		}
		if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write: %v", err)
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
		if _, err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("write after close: %v", err)
		}
		if err := c.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second close: %v", err)
		}
	})
}

func TestCloseWriteEndsOneDirection(t *testing.T) {
	within(t, func(t *testing.T) {
		c, s := dial(t, Options{})
		write(t, c, "last")
		c.CloseWrite()
		read(t, s, "last")
		if _, err := s.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("read: %v", err)
		}
		write(t, s, "answer")
		read(t, c, "answer")
		if _, err := c.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write: %v", err)
		}
	})
}

func TestCutResetsBothEnds(t *testing.T) {
	within(t, func(t *testing.T) {
		c, s := dial(t, Options{Buffer: 1})
		failed := make(chan error)
		go func() { _, err := c.Read(make([]byte, 1)); failed <- err }()
		go func() { _, err := c.Write(make([]byte, 2)); failed <- err }()
		synctest.Wait()
		s.Cut()
		for range 2 {
			if err := <-failed; !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
		}
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
	})
}

func TestFreezeHoldsBytesBack(t *testing.T) {
	within(t, func(t *testing.T) {
		c, s := dial(t, Options{})
		c.Freeze(true)
		write(t, c, "later")
		got := make(chan string, 1)
		go func() {
			b := make([]byte, 5)
			io.ReadFull(s, b)
			got <- string(b)
		}()
		time.Sleep(time.Hour)
		if len(got) > 0 {
			t.Fatal("bytes came through")
		}
		c.Freeze(false)
		if b := <-got; b != "later" {
			t.Errorf("got %q", b)
		}
	})
}

func TestLatencyKeepsTheOrder(t *testing.T) {
	within(t, func(t *testing.T) {
		c, s := dial(t, Options{})
		c.SetLatency(100 * time.Millisecond)
		begin := time.Now()
		write(t, c, "a")
		c.SetLatency(0)
		write(t, c, "b") // does not overtake
		read(t, s, "ab")
		if took := time.Since(begin); took != 100*time.Millisecond {
			t.Errorf("took %v", took)
		}
		c.SetLatency(time.Second)
		write(t, s, "c")
		c.SetLatency(0)
		s.Close()
		read(t, c, "c")
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Error(err)
		}
	})
}

func TestListenerClose(t *testing.T) {
	within(t, func(t *testing.T) {
		l := Listen()
		waiting, err := l.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if _, err := waiting.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read of a connection that nobody accepted: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
		if _, err := l.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("dial: %v", err)
		}
	})
}

func TestDialGivesUpWithItsContext(t *testing.T) {
	within(t, func(t *testing.T) {
		l := Listen()
		defer l.Close()
		for range backlog {
			if _, err := l.Dial(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("dial: %v", err)
		}
	})
}

func TestLargeTransfer(t *testing.T) {
	c, s := Pipe(1000)
	want := bytes.Repeat([]byte("0123456789"), 50_000)
	go func() {
		c.Write(want)
		c.Close()
	}()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %d of %d bytes, %v", len(got), len(want), err)
	}
}
