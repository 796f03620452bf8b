// Copyright 2026 The Noctule Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

const patience = 20 * time.Second

// A process is "noctule run", the binary itself.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines chan string // of standard error
	seen  strings.Builder
}

func runBroker(t *testing.T, args ...string) *process {
	t.Helper()
	return begin(t, exec.Command("noctule", args...))
}

func begin(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	if cmd.Env == nil { // the user's own data is none of our business
		cmd.Env = append(os.Environ(), "STATE_DIRECTORY="+t.TempDir())
	}
	p := &process{t: t, cmd: cmd, lines: make(chan string, 1000)}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(stderr); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() { p.cmd.Process.Kill() }) // it has most likely ended
	return p
}

// said waits for a line that matches and gives its first group.
func (p *process) said(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("it ended without saying %s:\n%s", pattern, p.seen.String())
			}
			p.seen.WriteString(line + "\n")
			if m := re.FindStringSubmatch(line); m != nil {
				return m[len(m)-1]
			}
		case <-timeout:
			p.t.Fatalf("it does not say %s:\n%s", pattern, p.seen.String())
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// ends waits for the end and gives the exit code.
func (p *process) ends() int {
	p.t.Helper()
	for line := range p.lines {
		p.seen.WriteString(line + "\n")
	}
	err := p.cmd.Wait()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return e.ExitCode()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return 0
}

// dialBroker connects (5.0, clean start) and waits for CONNACK.
func dialBroker(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01c")); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil || head[0] != 0x20 || head[3] != 0 {
		t.Fatalf("got % x, %v, want CONNACK", head, err)
	}
	if _, err := io.ReadFull(c, make([]byte, head[1]-2)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSignals(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(s.String(), func(t *testing.T) {
			p := runBroker(t, "run", "--listen", "127.0.0.1:0", "--admin", "off")
			c := dialBroker(t, p.said(`clients +mqtt://(\S+)`))
			p.signal(s)
			b, err := io.ReadAll(c)
			if err != nil || !bytes.HasPrefix(b, []byte{0xE0}) || b[2] != 0x8B {
				t.Errorf("got % x, %v, want DISCONNECT 0x8B", b, err)
			}
			c.Close()
			if code := p.ends(); code != 0 {
				t.Errorf("got exit code %d:\n%s", code, p.seen.String())
			}
		})
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	p := runBroker(t, "--listen", "127.0.0.1:0", "--admin", "off") // without the verb
	dialBroker(t, p.said(`clients +mqtt://(\S+)`))                 // stays, and keeps the server from ending
	p.signal(syscall.SIGTERM)
	p.said("msg=stopping")
	p.signal(syscall.SIGTERM)
	if code := p.ends(); code != exitImpatient {
		t.Errorf("got exit code %d:\n%s", code, p.seen.String())
	}
}

func TestHangupReloads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "noctule.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte("listeners: [{address: \"127.0.0.1:0\"}]\nadmin: {address: off}\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	p := runBroker(t, "run", "-c", file)
	p.said("clients +mqtt://")
	write("limits: {max_packet: 2MiB}\n")
	p.signal(syscall.SIGHUP)
	p.said("option changed.*limits.max_packet.*2MiB")
	p.said("configuration reloaded")
	write("limits: {max_paket: 2MiB}\n")
	p.signal(syscall.SIGHUP)
	p.said("the reload changed nothing.*did you mean max_packet")
	p.signal(syscall.SIGTERM)
	if code := p.ends(); code != 0 {
		t.Errorf("got exit code %d:\n%s", code, p.seen.String())
	}
}

// TestSocketActivation hands in a socket as systemd does: as descriptor 3, with its name.
func TestSocketActivation(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	config := filepath.Join(t.TempDir(), "noctule.yaml")
	for _, c := range []struct{ name, says string }{{"main", "clients +mqtt://" + l.Addr().String()}, {"other", "no listener has that name"}} {
		text := "listeners: [{name: " + c.name + ", address: \"127.0.0.1:0\"}]\nadmin: {address: off}\n"
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		// LISTEN_PID is the process's own, which only a shell can know beforehand.
		cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=main exec noctule run -c "$0"`, config)
		cmd.ExtraFiles = []*os.File{f}
		p := begin(t, cmd)
		p.said(c.says)
		if c.name == "main" {
			dialBroker(t, l.Addr().String()).Close()
			p.signal(syscall.SIGTERM)
		}
		if code := p.ends(); (code == 0) != (c.name == "main") {
			t.Errorf("%s: got exit code %d:\n%s", c.name, code, p.seen.String())
		}
	}
}
